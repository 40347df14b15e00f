#ifndef DEKD_FUZZ_H_
#define DEKD_FUZZ_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "../core/key_table.h"
#include "../core/status.h"

namespace dekd::fuzz {

using Bytes = std::vector<uint8_t>;

// Input gives what the fuzzer made, from the front; zeros when there is no more.
class Input final {
 public:
  Input(const uint8_t* data, size_t size) : left_(data, size) {}
  uint8_t byte() {
    if (left_.empty()) {
      return 0;
    }
    const uint8_t first = left_.front();
    left_ = left_.subspan(1);
    return first;
  }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      value = value << 8 | byte();
    }
    return value;
  }
  // Copies, so that the address sanitizer sees one byte too far.
  Bytes bytes(size_t wanted) {
    const size_t count = wanted < left_.size() ? wanted : left_.size();
    Bytes taken(left_.begin(), left_.begin() + static_cast<ptrdiff_t>(count));
    left_ = left_.subspan(count);
    return taken;
  }
  Bytes rest() { return bytes(left_.size()); }
  size_t left() const { return left_.size(); }

 private:
  std::span<const uint8_t> left_;
};

// must ends the process with a finding when a promise of the core does not hold.
inline void must(bool fact, const char* promise) {
  if (!fact) {
    std::fprintf(stderr, "broken promise: %s\n", promise);
    std::abort();
  }
}

template <typename T>
T made(const Result<T>& result) {
  must(result.ok(), "a key can be made");
  return result.value();
}

inline bool all_zero(std::span<const uint8_t> bytes) {
  for (const uint8_t byte : bytes) {
    if (byte != 0) {
      return false;
    }
  }
  return true;
}

// Byte by byte, and not by memcmp: libFuzzer looks at what that compares, and would put the tokens that a target sealed
// into the next inputs, where they open as they should.
inline bool same(const Bytes& a, const Bytes& b) {
  bool equal = a.size() == b.size();
  for (size_t i = 0; equal && i < a.size(); ++i) {
    equal = a[i] == b[i];
  }
  return equal;
}

// A table that lives as long as the process, as that of an agent does.
inline KeyTable& table() {
  static KeyTable* const kTable = [] {
    auto* const opened = new KeyTable();
    must(opened->open(LockLevel::kHeap) == Status::kOk, "a table opens");
    return opened;
  }();
  return *kTable;
}

}  // namespace dekd::fuzz

#endif  // DEKD_FUZZ_H_
