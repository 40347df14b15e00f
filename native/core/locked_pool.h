#ifndef DEKD_CORE_LOCKED_POOL_H_
#define DEKD_CORE_LOCKED_POOL_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "status.h"

namespace dekd {

// LockLevel says what protects the pages that keys lie in, best first. The numbers are the contract with JavaScript.
enum class LockLevel : int32_t {
  // memfd_secret: not in the kernel's direct map, not readable through /proc/PID/mem, ptrace or a core file even by
  // root, never swapped. Code that runs inside the process still reads it.
  kSecret = 0,
  // mlock and MADV_DONTDUMP: never swapped, not in core files; root can read it through /proc/PID/mem.
  kLocked = 1,
  // Ordinary memory, kept out of core files where the kernel allows it.
  kHeap = 2,
};

// Reasons of our own beside errno, when memfd_secret works and does not hide the pages.
inline constexpr int kSecretReadable = -1;
inline constexpr int kSecretInDirectMap = -2;

// Why a better level was not reached: errno of the last attempt at it or one of the reasons above, 0 when it was not tried
// or it worked.
struct LockReasons final {
  int secret_errno = 0;
  int locked_errno = 0;
};

// LockedPool is one run of zeroed pages for keys with an inaccessible page on either side.
//
// The largest size that the process may lock is taken, down to one page, before a lower level is: fewer keys at a time
// cost unwraps, a lower level costs protection. The size is a parameter because RLIMIT_MEMLOCK is 64 KiB in many
// containers and there is no Kubernetes field for it. A forked child does not have the pages at all.
class LockedPool final {
 public:
  LockedPool() = default;
  ~LockedPool();
  LockedPool(LockedPool&& other) noexcept;
  LockedPool& operator=(LockedPool&& other) noexcept;
  LockedPool(const LockedPool&) = delete;
  LockedPool& operator=(const LockedPool&) = delete;

  // reserve maps at most `bytes` at the best level that is not below `minimum`.
  // Returns kBelowMinimum when there is none; `reasons()` then says why.
  Status reserve(size_t bytes, LockLevel minimum);

  std::span<uint8_t> bytes() const { return {data_, size_}; }
  LockLevel level() const { return level_; }
  const LockReasons& reasons() const { return reasons_; }

 private:
  int map(LockLevel level, size_t bytes);
  void release();

  uint8_t* mapping_ = nullptr;
  size_t mapping_size_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  LockLevel level_ = LockLevel::kHeap;
  LockReasons reasons_;
};

}  // namespace dekd

#endif  // DEKD_CORE_LOCKED_POOL_H_
