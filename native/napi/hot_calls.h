#ifndef DEKD_NAPI_HOT_CALLS_H_
#define DEKD_NAPI_HOT_CALLS_H_

#include <node_api.h>

namespace dekd {

// The calls that every request ends in, on the C interface of Node-API: at 64 bytes the conversions of a call cost
// a quarter of it.

// Numbers of one Seal or Open, in an array that JavaScript and the addon share: written before the call instead of passed
// with it, which costs a sixth. One array an environment, so one thread.
struct CallWords final {
  double key = 0;
  double context_offset = 0;
  double context_length = 0;
  double data_offset = 0;
  double data_length = 0;
  double out_offset = 0;
  // Written by the call: its status number.
  double status = 0;
};

// seal(input, output) and open(input, output); the function's data is its CallWords. Nothing is returned.
napi_value Seal(napi_env env, napi_callback_info info);
napi_value Open(napi_env env, napi_callback_info info);
// sealMany(table, count, input, output) and openMany: a status number.
napi_value SealMany(napi_env env, napi_callback_info info);
napi_value OpenMany(napi_env env, napi_callback_info info);
// macMany(table, count, scopes, input, output) and verifyMacMany(table, count, scopes, input): a status number.
napi_value MacMany(napi_env env, napi_callback_info info);
napi_value VerifyMacMany(napi_env env, napi_callback_info info);

}  // namespace dekd

#endif  // DEKD_NAPI_HOT_CALLS_H_
