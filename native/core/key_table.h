#ifndef DEKD_CORE_KEY_TABLE_H_
#define DEKD_CORE_KEY_TABLE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "locked_pool.h"
#include "status.h"

namespace dekd {

// Numbers are the contract with JavaScript.
enum class Algorithm : uint8_t { kXaes256Gcm = 0, kEsdk0478 = 1, kHkdfSha256 = 2, kHmacSha256 = 3, kAes256Gcm = 4 };
enum class Purpose : uint8_t { kSeal = 0, kWrap = 1, kMessage = 2, kMac = 3, kIndex = 4 };

// What one key is for; a key has one purpose and one algorithm.
struct KeyUse final {
  Algorithm algorithm = Algorithm::kXaes256Gcm;
  Purpose purpose = Purpose::kSeal;

  friend bool operator==(const KeyUse&, const KeyUse&) = default;
};

// Names a key: the slot's index in the low bits, the slot's generation above them. 0 names nothing. A generation comes
// back after 2^22 keys in the same slot, and slots are reused in turn, so a stale handle is refused for the next four
// billion keys of a full table.
using KeyHandle = uint32_t;

inline constexpr size_t kKeyLength = 32;
inline constexpr size_t kKidLength = 16;
inline constexpr size_t kBlockLength = 16;
inline constexpr size_t kSlotLength = 64;
inline constexpr size_t kMaxSlots = 1024;
inline constexpr size_t kPoolBytes = kMaxSlots * kSlotLength;

// What a slot of the locked pool holds: nothing that is not secret but the kid, which is there so that sealing reads
// one cache line.
struct KeySlot final {
  uint8_t key[kKeyLength];
  uint8_t kid[kKidLength];
  // XAES-256-GCM's K1 for algorithm kXaes256Gcm, else zero.
  uint8_t xaes_k1[kBlockLength];
};
static_assert(sizeof(KeySlot) == kSlotLength);

inline constexpr size_t kMessageIdLength = 32;

// What is known of a message in work beside its key (message.h); unused for keys of other uses. Not secret.
struct MessageState final {
  enum class Phase : uint8_t { kSealHeader, kSealFrames, kOpenHeader, kOpenFrames, kEnded };

  std::array<uint8_t, kMessageIdLength> id{};
  // Bytes of plaintext in every frame but the last; 0 for a body that is not framed.
  uint32_t frame_length = 0;
  uint32_t next_sequence = 1;
  Phase phase = Phase::kEnded;
  // Whether a call works on it; phase and sequence belong to that call.
  std::atomic<bool> busy{false};
};

struct KeyTableStats final {
  uint32_t capacity = 0;
  uint32_t used = 0;
  uint64_t created = 0;
  uint64_t destroyed = 0;
};

// KeyTable is where keys live: slots in locked memory, and the book-keeping for them outside of it.
//
// Theory of operation. A slot's state is one word: generation, whether it is live, whether it is doomed, and how many
// uses are under way. A use begins by adding one to the count of a live, undoomed slot of the right generation and ends
// by taking it away. Destroying marks the slot doomed, after which no use can begin; whoever then sees the count at
// zero, the destroyer or the last use, wipes the slot. So a key is never wiped under a running operation and never
// survives the last one. The mutex guards only the queue of free slots and the counters; uses do not take it. Free
// slots are reused in the order in which they were freed, which keeps stale handles detectable for longest.
class KeyTable final {
 public:
  KeyTable() = default;
  ~KeyTable();
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;

  // shared returns the table of the process, used by all its threads. It is never destroyed: threads may still run
  // when the process ends.
  static KeyTable& shared();

  // open maps the pool. Once it has succeeded, later calls change nothing and return kOk, or kBelowMinimum when the
  // level reached is below `minimum`. Any thread; before it, every other call finds an empty table.
  Status open(LockLevel minimum, size_t bytes = kPoolBytes);

  // Level, reasons and extent of the pool; of the last failed attempt before open() has succeeded.
  LockLevel level() const { return pool_.level(); }
  LockReasons reasons() const { return pool_.reasons(); }
  std::span<const uint8_t> extent() const { return pool_.bytes(); }
  bool ready() const { return ready_.load(std::memory_order_acquire); }

  // Lease lends one key for one operation; the key outlives it even if it is destroyed meanwhile. Cheap to take.
  class Lease final {
   public:
    Lease() = default;
    ~Lease() { release(); }
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    explicit operator bool() const { return slot_ != nullptr; }
    const KeySlot& slot() const { return *slot_; }
    std::span<const uint8_t, kKeyLength> key() const { return std::span<const uint8_t, kKeyLength>(slot_->key); }
    std::span<const uint8_t, kKidLength> kid() const { return std::span<const uint8_t, kKidLength>(slot_->kid); }
    const KeyUse& use() const { return use_; }
    MessageState& message() const { return table_->entries_[index_].message; }

   private:
    friend class KeyTable;
    void release();

    KeyTable* table_ = nullptr;
    const KeySlot* slot_ = nullptr;
    uint32_t index_ = 0;
    KeyUse use_;
  };

  // lease begins a use of the key. False for a handle that names no live key; `lease` is then empty.
  bool lease(KeyHandle handle, Lease& lease);

  // lend is a lease for one use: kStaleKey as lease is false, kWrongUse for a key that is for something else, which
  // `lease` then holds all the same.
  Status lend(KeyHandle handle, const KeyUse& use, Lease& lease) {
    if (!this->lease(handle, lease)) {
      return Status::kStaleKey;
    }
    return lease.use() == use ? Status::kOk : Status::kWrongUse;
  }

  // Reservation is a slot that is being filled: nobody else sees it until publish().
  class Reservation final {
   public:
    Reservation() = default;
    ~Reservation();
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

    // The slot to fill; zero at first.
    KeySlot& slot() { return *slot_; }
    MessageState& message() { return table_->entries_[index_].message; }
    // Makes the key usable and returns its handle. The reservation is empty afterwards; one that is never published
    // is wiped and freed.
    KeyHandle publish();

   private:
    friend class KeyTable;
    KeyTable* table_ = nullptr;
    KeySlot* slot_ = nullptr;
    uint32_t index_ = 0;
  };

  // reserve takes a free slot for a key of `use` that belongs to `owner`.
  Status reserve(KeyUse use, uint32_t owner, Reservation& reservation);

  // destroy wipes the key now or when its last use ends. A stale handle is ignored.
  void destroy(KeyHandle handle);

  // new_owner returns a number to make keys under; destroy_owned destroys all keys made under it, for an engine that
  // closes and for a thread that ends without closing it.
  uint32_t new_owner();
  void destroy_owned(uint32_t owner);

  KeyTableStats stats();

 private:
  // Padded to a cache line: threads count uses of different keys without slowing each other.
  struct alignas(64) Entry final {
    std::atomic<uint64_t> state{0};
    // Written by the reserving thread before the slot is published, and read only under a lease.
    KeyUse use;
    std::atomic<uint32_t> owner{0};
    MessageState message;
  };
  static_assert(sizeof(Entry) == 64);

  KeySlot* slot(uint32_t index) const;
  bool begin_use(uint32_t index, uint32_t generation);
  void end_use(uint32_t index);
  void doom(uint32_t index, uint32_t generation);
  void retire(uint32_t index);

  std::mutex mutex_;
  std::atomic<bool> ready_{false};
  LockedPool pool_;
  std::unique_ptr<Entry[]> entries_;
  uint32_t capacity_ = 0;
  // A ring of free indexes, first in first out.
  std::unique_ptr<uint32_t[]> free_;
  size_t free_head_ = 0;
  size_t free_count_ = 0;
  uint64_t created_ = 0;
  uint64_t destroyed_ = 0;
  std::atomic<uint32_t> owners_{0};
};

}  // namespace dekd

#endif  // DEKD_CORE_KEY_TABLE_H_
