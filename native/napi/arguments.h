#ifndef DEKD_NAPI_ARGUMENTS_H_
#define DEKD_NAPI_ARGUMENTS_H_

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/status.h"

namespace dekd {

// Arguments reads what one call was given, in order. The only caller is `src/addon/binding.ts`, which is typed; a value
// of another type makes ok() false, and the function then answers kInvalidArgument instead of throwing.
class Arguments final {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  // The next argument as a whole number from 0 to 2^32 - 1.
  uint32_t number();
  // The same up to 2^53.
  uint64_t whole();
  // The next argument as a file descriptor.
  int descriptor() { return static_cast<int>(number()); }
  // The next argument as the bytes of a Uint8Array, valid until the call returns.
  std::span<uint8_t> bytes();
  // The same, of exactly N bytes; an array of zeros of that length when it is not.
  template <size_t N>
  std::span<uint8_t, N> bytes_of_length() {
    const std::span<uint8_t> given = bytes();
    if (given.size() != N) {
      ok_ = false;
      static thread_local uint8_t nothing[N];
      return std::span<uint8_t, N>(nothing);
    }
    return given.first<N>();
  }

  bool ok() const { return ok_; }

 private:
  Napi::Value next() { return info_[index_++]; }

  const Napi::CallbackInfo& info_;
  size_t index_ = 0;
  bool ok_ = true;
};

}  // namespace dekd

#endif  // DEKD_NAPI_ARGUMENTS_H_
