#ifndef DEKD_CORE_LANE_REGION_H_
#define DEKD_CORE_LANE_REGION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "owned_fd.h"

namespace dekd {

// Why memory or descriptors did not become part of a lane. Numbers are the contract with `src/addon/binding.ts`;
// texts are made in JavaScript.
enum class [[nodiscard]] LaneFault : int32_t {
  kNone = 0,
  // A system call failed; errno is left as it was set.
  kSystem = 1,
  // Nothing has come yet.
  kNotYet = 2,
  // The other side closed before it said anything.
  kEnded = 3,
  // Other bytes than one greeting, or another number of descriptors than its kind has.
  kMalformed = 4,
  // The descriptor is no memfd that can be sealed.
  kNotMemfd = 5,
  kHugePages = 6,
  // One of the seals is missing.
  kNotSealed = 7,
  // Not open for reading and writing.
  kNotWritable = 8,
  // Nothing, or more than the limit that was given.
  kSize = 9,
  // Pages are missing, which would be made on the account of whoever touches them first.
  kNotPopulated = 10,
  // Not a regular file.
  kNotRegular = 11,
  // The file to read is not open for reading, or the one to write not for writing, or one of them with O_PATH or
  // O_APPEND.
  kAccess = 12,
  // Both descriptors are of one file.
  kSameFile = 13,
  // The file to write is not empty.
  kNotEmpty = 14,
  // A file on a file system that may keep whoever reads it waiting, that the kernel makes up, or that is memory.
  kFileSystem = 15,
};

// LaneRegion is memory that two processes share through a memfd which can neither shrink nor grow, so that a page of it
// is always there: no read of it can end in SIGBUS. Mapped until the last owner of the object lets it go.
//
// What is in it can change at any time, in the middle of any read. Nothing that was read of it may be read again to
// act upon, and nothing may be written to it that its reader may not see.
class LaneRegion final {
 public:
  ~LaneRegion();
  LaneRegion(const LaneRegion&) = delete;
  LaneRegion& operator=(const LaneRegion&) = delete;

  // Makes a memfd of `size` bytes, sealed and populated. It keeps the descriptor, to be sent again to another agent.
  static LaneFault create(size_t size, std::shared_ptr<LaneRegion>& region);
  // Maps the memfd of a peer, of at most `limit` bytes, after looking at all that the peer could have got wrong. `fd`
  // stays the caller's, who may close it.
  static LaneFault adopt(int fd, size_t limit, std::shared_ptr<LaneRegion>& region);

  std::span<uint8_t> bytes() const { return bytes_; }
  // -1 for an adopted one.
  int descriptor() const { return fd_.get(); }

  // Bytes of all adopted regions that are still mapped in this process.
  static size_t adopted();

 private:
  LaneRegion(std::span<uint8_t> bytes, OwnedFd fd);

  std::span<uint8_t> bytes_;
  OwnedFd fd_;
};

// LaneTable names regions by numbers, for JavaScript. Any thread. Whoever found a region keeps it mapped, also after its
// number was dropped.
class LaneTable final {
 public:
  static LaneTable& shared();

  // Numbers are not used again before they wrap; 0 names nothing.
  uint32_t add(std::shared_ptr<LaneRegion> region);
  // Null when there is no such region.
  std::shared_ptr<LaneRegion> find(uint32_t number);
  void drop(uint32_t number);

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<LaneRegion>> regions_;
  uint32_t next_ = 1;
};

}  // namespace dekd

#endif  // DEKD_CORE_LANE_REGION_H_
