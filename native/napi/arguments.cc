#include "arguments.h"

#include <climits>

namespace dekd {

uint32_t Arguments::number() {
  double value = -1;
  if (napi_get_value_double(info_.Env(), next(), &value) != napi_ok || !(value >= 0) ||
      value > static_cast<double>(UINT32_MAX)) {
    ok_ = false;
    return 0;
  }
  return static_cast<uint32_t>(value);
}

uint64_t Arguments::whole() {
  constexpr double kLimit = 9007199254740992;
  double value = -1;
  if (napi_get_value_double(info_.Env(), next(), &value) != napi_ok || !(value >= 0 && value < kLimit) ||
      static_cast<double>(static_cast<uint64_t>(value)) != value) {
    ok_ = false;
    return 0;
  }
  return static_cast<uint64_t>(value);
}

std::span<uint8_t> Arguments::bytes() {
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(info_.Env(), next(), &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    ok_ = false;
    return {};
  }
  return {static_cast<uint8_t*>(data), length};
}

}  // namespace dekd
