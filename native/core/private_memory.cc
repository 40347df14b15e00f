#include "private_memory.h"

#include <sys/mman.h>

namespace dekd {
namespace {

constexpr size_t kGrain = size_t{2} << 20;

class Mapping final {
 public:
  Mapping() = default;
  ~Mapping() { release(); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<uint8_t> at_least(size_t size) {
    if (size > bytes_.size()) {
      release();
      const size_t whole = (size + kGrain - 1) / kGrain * kGrain;
      void* const address = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (address == MAP_FAILED) {
        return {};
      }
      madvise(address, whole, MADV_DONTFORK);
      madvise(address, whole, MADV_DONTDUMP);
      // Advice only: it saves most page faults of a first use.
      madvise(address, whole, MADV_HUGEPAGE);
      bytes_ = {static_cast<uint8_t*>(address), whole};
    }
    return bytes_.first(size);
  }

  void release() {
    if (!bytes_.empty()) {
      munmap(bytes_.data(), bytes_.size());
      bytes_ = {};
    }
  }

 private:
  std::span<uint8_t> bytes_;
};

thread_local Mapping mapping;

}  // namespace

std::span<uint8_t> private_memory(size_t size) { return mapping.at_least(size); }

void release_private_memory() { mapping.release(); }

}  // namespace dekd
