#ifndef DEKD_NAPI_FILE_CALLS_H_
#define DEKD_NAPI_FILE_CALLS_H_

#include <napi.h>

namespace dekd {

// Files that a client passes by descriptors. A pass is a number; its steps run on a thread of libuv's pool, one at a time,
// and each gives a promise.
void export_file_calls(Napi::Env env, Napi::Object exports);

}  // namespace dekd

#endif  // DEKD_NAPI_FILE_CALLS_H_
