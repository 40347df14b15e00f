#include "locked_pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "hidden_memory.h"
#include "secret.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447  // the same number on every architecture; absent from older headers
#endif

namespace dekd {
namespace {

size_t page_size() {
  static const auto kPageSize = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return kPageSize;
}

size_t round_to_pages(size_t bytes) { return (bytes + page_size() - 1) / page_size() * page_size(); }

// Replaces the reserved pages at `address` by secret memory. Returns 0 or errno.
int map_secret(uint8_t* address, size_t bytes) {
  // Close-on-exec: a program started later must not inherit the pages through the descriptor.
  const auto fd = static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC));
  if (fd < 0) {
    return errno;
  }
  int error = 0;
  // A private mapping of secret memory is refused by the kernel.
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0 ||
      mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    error = errno;
  }
  // Closed at once: as long as the descriptor is open, pidfd_getfd and a second mapping read the keys.
  close(fd);
  if (error != 0) {
    return error;
  }
  // The call has had defects, and what has its number may not be it.
  return keeps_direct_map() ? kSecretInDirectMap : is_hidden({address, bytes}) ? 0 : kSecretReadable;
}

int map_anonymous(uint8_t* address, size_t bytes) {
  void* const mapped =
      mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return mapped == MAP_FAILED ? errno : 0;
}

}  // namespace

LockedPool::~LockedPool() { release(); }

LockedPool::LockedPool(LockedPool&& other) noexcept { *this = std::move(other); }

LockedPool& LockedPool::operator=(LockedPool&& other) noexcept {
  if (this != &other) {
    release();
    mapping_ = std::exchange(other.mapping_, nullptr);
    mapping_size_ = std::exchange(other.mapping_size_, 0);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    level_ = other.level_;
    reasons_ = other.reasons_;
  }
  return *this;
}

Status LockedPool::reserve(size_t bytes, LockLevel minimum) {
  release();
  const size_t full = round_to_pages(bytes);
  // The steps are quarters because 64 KiB is what a container usually may lock and other pages of the process may be
  // locked already; the last one is a single page.
  const std::array<size_t, 5> sizes = {full, round_to_pages(full * 3 / 4), round_to_pages(full / 2),
                                       round_to_pages(full / 4), page_size()};
  for (const LockLevel level : {LockLevel::kSecret, LockLevel::kLocked, LockLevel::kHeap}) {
    if (level > minimum) {
      break;
    }
    int error = 0;
    for (const size_t size : sizes) {
      error = map(level, size);
      if (error == 0) {
        return Status::kOk;
      }
      // Only a limit is met by asking for less; a missing or forbidden call stays so.
      if (error != EAGAIN && error != ENOMEM && error != EPERM) {
        break;
      }
    }
    if (level == LockLevel::kSecret) {
      reasons_.secret_errno = error;
    } else if (level == LockLevel::kLocked) {
      reasons_.locked_errno = error;
    }
  }
  return Status::kBelowMinimum;
}

int LockedPool::map(LockLevel level, size_t bytes) {
  const size_t guard = page_size();
  const size_t whole = bytes + 2 * guard;
  void* const reserved = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return errno;
  }
  mapping_ = static_cast<uint8_t*>(reserved);
  mapping_size_ = whole;
  uint8_t* const inside = mapping_ + guard;

  int error = level == LockLevel::kSecret ? map_secret(inside, bytes) : map_anonymous(inside, bytes);
  if (error == 0 && level == LockLevel::kLocked && mlock(inside, bytes) != 0) {
    error = errno;
  }
  if (error == 0 && level != LockLevel::kSecret && madvise(inside, bytes, MADV_DONTDUMP) != 0 &&
      level == LockLevel::kLocked) {
    error = errno;
  }
  if (error == 0 && madvise(inside, bytes, MADV_DONTFORK) != 0 && level != LockLevel::kHeap) {
    error = errno;
  }
  if (error != 0) {
    release();
    return error;
  }
  // Touched now, so that a lack of memory shows at start and not at the first key.
  std::memset(inside, 0, bytes);
  data_ = inside;
  size_ = bytes;
  level_ = level;
  return 0;
}

void LockedPool::release() {
  if (data_ != nullptr) {
    wipe({data_, size_});
  }
  if (mapping_ != nullptr) {
    munmap(mapping_, mapping_size_);
  }
  mapping_ = nullptr;
  mapping_size_ = 0;
  data_ = nullptr;
  size_ = 0;
}

}  // namespace dekd
