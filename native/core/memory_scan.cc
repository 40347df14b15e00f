#include "memory_scan.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "secret.h"

namespace dekd {
namespace {

struct Range final {
  uintptr_t begin;
  uintptr_t end;
};

struct FileCloser final {
  void operator()(FILE* file) const { std::fclose(file); }
};

// Chunk is where memory is copied to for looking at it: pages of their own, so that they can be left out.
class Chunk final {
 public:
  static constexpr size_t kSize = size_t{1} << 18;

  Chunk() {
    void* const mapped = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = mapped == MAP_FAILED ? nullptr : static_cast<uint8_t*>(mapped);
  }
  ~Chunk() {
    if (data_ != nullptr) {
      wipe({data_, kSize});
      munmap(data_, kSize);
    }
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  uint8_t* data() const { return data_; }
  Range range() const {
    const auto begin = reinterpret_cast<uintptr_t>(data_);
    return {begin, begin + kSize};
  }

 private:
  uint8_t* data_;
};

// Subtracts `hole` from each of `ranges`.
void leave_out(std::vector<Range>& ranges, Range hole) {
  std::vector<Range> kept;
  for (const Range range : ranges) {
    if (hole.end <= range.begin || range.end <= hole.begin) {
      kept.push_back(range);
      continue;
    }
    if (range.begin < hole.begin) {
      kept.push_back({range.begin, hole.begin});
    }
    if (hole.end < range.end) {
      kept.push_back({hole.end, range.end});
    }
  }
  ranges = std::move(kept);
}

bool writable_ranges(std::vector<Range>& ranges) {
  const std::unique_ptr<FILE, FileCloser> maps(std::fopen("/proc/self/maps", "re"));
  if (maps == nullptr) {
    return false;
  }
  std::array<char, 4096> line;
  while (std::fgets(line.data(), static_cast<int>(line.size()), maps.get()) != nullptr) {
    Range range{};
    std::array<char, 5> mode{};
    if (std::sscanf(line.data(), "%" SCNxPTR "-%" SCNxPTR " %4s", &range.begin, &range.end, mode.data()) == 3 &&
        mode[0] == 'r' && mode[1] == 'w') {
      ranges.push_back(range);
    }
  }
  return true;
}

uint32_t count_in(std::span<const uint8_t> haystack, std::span<const uint8_t, kKeyLength> key) {
  uint32_t copies = 0;
  const uint8_t* at = haystack.data();
  const uint8_t* const last = haystack.data() + haystack.size() - kKeyLength;
  while (at <= last) {
    at = static_cast<const uint8_t*>(std::memchr(at, key[0], static_cast<size_t>(last - at) + 1));
    if (at == nullptr) {
      break;
    }
    if (std::memcmp(at, key.data(), key.size()) == 0) {
      ++copies;
      at += key.size();
    } else {
      ++at;
    }
  }
  return copies;
}

// Reads through the kernel: a mapping that another thread takes away meanwhile is an error here and not a crash.
size_t read_own_memory(uintptr_t address, uint8_t* out, size_t size) {
  const iovec local{out, size};
  const iovec remote{reinterpret_cast<void*>(address), size};
  const ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  return got < 0 ? 0 : static_cast<size_t>(got);
}

void scan_range(Range range, std::span<const uint8_t, kKeyLength> key, uint8_t* chunk, ScanResult& result) {
  // Chunks overlap by one byte less than a key, so that none is missed or counted twice at a border.
  constexpr size_t kOverlap = kKeyLength - 1;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  uintptr_t at = range.begin;
  while (at < range.end && range.end - at >= kKeyLength) {
    const size_t want = std::min<size_t>(Chunk::kSize, range.end - at);
    const size_t got = read_own_memory(at, chunk, want);
    if (got < kKeyLength) {
      // Nothing readable here (another secret mapping, a device): go on behind the page.
      at = (at / page + 1) * page;
      continue;
    }
    result.copies += count_in({chunk, got}, key);
    result.bytes += got;
    if (at + got >= range.end) {
      break;
    }
    at += got - kOverlap;
  }
}

std::mutex leak_mutex;
std::unique_ptr<std::array<uint8_t, kKeyLength>> leak;

}  // namespace

Result<ScanResult> count_copies(KeyTable& table, KeyHandle key) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  if (!table.lease(key, lease)) {
    return Status::kStaleKey;
  }
  const Chunk chunk;
  std::vector<Range> ranges;
  if (chunk.data() == nullptr || !writable_ranges(ranges)) {
    return Status::kSystemFailed;
  }
  const auto pool = reinterpret_cast<uintptr_t>(table.extent().data());
  leave_out(ranges, {pool, pool + table.extent().size()});
  leave_out(ranges, chunk.range());
  ScanResult result;
  for (const Range range : ranges) {
    scan_range(range, lease.key(), chunk.data(), result);
  }
  return result;
}

Status prove_leak_plant(KeyTable& table, KeyHandle key) {
  KeyTable::Lease lease;
  if (!table.lease(key, lease)) {
    return Status::kStaleKey;
  }
  const std::lock_guard lock(leak_mutex);
  leak.reset(new (std::nothrow) std::array<uint8_t, kKeyLength>);
  if (leak == nullptr) {
    return Status::kSystemFailed;
  }
  std::memcpy(leak->data(), lease.key().data(), leak->size());
  return Status::kOk;
}

void prove_leak_clear() {
  const std::lock_guard lock(leak_mutex);
  if (leak != nullptr) {
    wipe(*leak);
    leak.reset();
  }
}

}  // namespace dekd
