#ifndef DEKD_CORE_BYTES_H_
#define DEKD_CORE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

namespace dekd {

// bytes_of gives the bytes of a text where they lie.
inline std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// put_big_endian writes the low `length` bytes of `value`, at most 8; get_big_endian reads them.
inline void put_big_endian(uint64_t value, size_t length, uint8_t* out) {
  for (size_t i = 0; i < length; ++i) {
    out[i] = static_cast<uint8_t>(value >> (8 * (length - 1 - i)));
  }
}

inline uint64_t get_big_endian(const uint8_t* bytes, size_t length) {
  uint64_t value = 0;
  for (size_t i = 0; i < length; ++i) {
    value = (value << 8) | bytes[i];
  }
  return value;
}

// overlap says whether two regions have a byte in common. std::less orders pointers into different objects too.
inline bool overlap(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  const std::less<> before;
  return !a.empty() && !b.empty() && before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

}  // namespace dekd

#endif  // DEKD_CORE_BYTES_H_
