#include "lane_region.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <atomic>
#include <limits>

namespace dekd {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
// What st_blocks counts in, whatever the file system's own blocks are.
constexpr uint64_t kStatBlock = 512;

std::atomic<size_t> adopted_bytes{0};

// Maps the whole of it. Not for children, who would keep it beyond our accounts, and not for core files.
std::span<uint8_t> map_shared(int fd, size_t size) {
  void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (address == MAP_FAILED) {
    return {};
  }
  madvise(address, size, MADV_DONTFORK);
  madvise(address, size, MADV_DONTDUMP);
  return {static_cast<uint8_t*>(address), size};
}

}  // namespace

LaneRegion::LaneRegion(std::span<uint8_t> bytes, OwnedFd fd) : bytes_(bytes), fd_(std::move(fd)) {
  adopted_bytes += fd_.get() < 0 ? bytes_.size() : 0;
}

LaneRegion::~LaneRegion() {
  munmap(bytes_.data(), bytes_.size());
  adopted_bytes -= fd_.get() < 0 ? bytes_.size() : 0;
}

size_t LaneRegion::adopted() { return adopted_bytes; }

LaneFault LaneRegion::create(size_t size, std::shared_ptr<LaneRegion>& region) {
  if (size == 0 || size > static_cast<size_t>(std::numeric_limits<off_t>::max())) {
    return LaneFault::kSize;
  }
  OwnedFd fd(memfd_create("dekd-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  // Allocated rather than truncated: a page that is not there would be made by whoever reads it first, on his account,
  // and memory that there is not is said here instead of by a signal.
  if (fd.get() < 0 || fallocate(fd.get(), 0, 0, static_cast<off_t>(size)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return LaneFault::kSystem;
  }
  const std::span<uint8_t> bytes = map_shared(fd.get(), size);
  if (bytes.empty()) {
    return LaneFault::kSystem;
  }
  region.reset(new LaneRegion(bytes, std::move(fd)));
  return LaneFault::kNone;
}

LaneFault LaneRegion::adopt(int fd, size_t limit, std::shared_ptr<LaneRegion>& region) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return LaneFault::kNotMemfd;
  }
  // Pages of hugetlb come from a pool that is not counted like other memory.
  struct statfs system {};
  if (fstatfs(fd, &system) != 0) {
    return LaneFault::kSystem;
  }
  if (system.f_type == HUGETLBFS_MAGIC) {
    return LaneFault::kHugePages;
  }
  struct stat file {};
  if (fstat(fd, &file) != 0) {
    return LaneFault::kSystem;
  }
  if (!S_ISREG(file.st_mode) || system.f_type != TMPFS_MAGIC) {
    return LaneFault::kNotMemfd;
  }
  if ((seals & kSeals) != kSeals) {
    return LaneFault::kNotSealed;
  }
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    return LaneFault::kNotWritable;
  }
  // With its seals on, the size is what it will stay.
  if (file.st_size <= 0 || static_cast<uint64_t>(file.st_size) > limit) {
    return LaneFault::kSize;
  }
  const auto size = static_cast<size_t>(file.st_size);
  if (static_cast<uint64_t>(file.st_blocks) * kStatBlock < size) {
    return LaneFault::kNotPopulated;
  }
  const std::span<uint8_t> bytes = map_shared(fd, size);
  if (bytes.empty()) {
    return LaneFault::kSystem;
  }
  region.reset(new LaneRegion(bytes, OwnedFd()));
  return LaneFault::kNone;
}

LaneTable& LaneTable::shared() {
  // Never destroyed: a worker may still end while static objects are.
  static LaneTable* const table = new LaneTable();
  return *table;
}

uint32_t LaneTable::add(std::shared_ptr<LaneRegion> region) {
  const std::lock_guard lock(mutex_);
  while (next_ == 0 || regions_.contains(next_)) {
    ++next_;
  }
  regions_.emplace(next_, std::move(region));
  return next_++;
}

std::shared_ptr<LaneRegion> LaneTable::find(uint32_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(number);
  return found == regions_.end() ? nullptr : found->second;
}

void LaneTable::drop(uint32_t number) {
  // Declared before the lock, so that what takes a while, unmapping, is done after it.
  std::shared_ptr<LaneRegion> last;
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(number);
  if (found != regions_.end()) {
    last = std::move(found->second);
    regions_.erase(found);
  }
}

}  // namespace dekd
