#include "key_table.h"

#include <cerrno>
#include <new>
#include <utility>

#include "secret.h"

namespace dekd {
namespace {

constexpr uint32_t kIndexBits = 10;
constexpr uint32_t kIndexMask = (1U << kIndexBits) - 1;
constexpr uint32_t kGenerationMask = UINT32_MAX >> kIndexBits;
static_assert(kMaxSlots == kIndexMask + 1);

// The state word: uses in the low 32 bits, then live and doomed, then the generation.
constexpr uint64_t kUses = 0xffffffffULL;
constexpr uint64_t kLive = 1ULL << 32;
constexpr uint64_t kDoomed = 1ULL << 33;
constexpr uint32_t kGenerationShift = 34;

constexpr uint32_t index_of(KeyHandle handle) { return handle & kIndexMask; }
constexpr uint32_t generation_of(KeyHandle handle) { return handle >> kIndexBits; }
constexpr uint32_t generation_in(uint64_t state) { return static_cast<uint32_t>(state >> kGenerationShift); }

// Generation 0 is left out, so that no handle is 0.
constexpr uint64_t next_generation(uint64_t state) {
  const uint32_t next = (generation_in(state) + 1) & kGenerationMask;
  return static_cast<uint64_t>(next == 0 ? 1 : next) << kGenerationShift;
}

constexpr bool usable(uint64_t state, uint32_t generation) {
  return (state & (kLive | kDoomed)) == kLive && generation_in(state) == generation;
}

}  // namespace

KeyTable::~KeyTable() = default;

KeyTable& KeyTable::shared() {
  // Placed in static storage and never destroyed; see the header.
  alignas(KeyTable) static uint8_t storage[sizeof(KeyTable)];
  static KeyTable* const kTable = ::new (static_cast<void*>(storage)) KeyTable();
  return *kTable;
}

Status KeyTable::open(LockLevel minimum, size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (ready_.load(std::memory_order_relaxed)) {
    return pool_.level() <= minimum ? Status::kOk : Status::kBelowMinimum;
  }
  if (bytes == 0 || bytes > kPoolBytes) {
    return Status::kInvalidArgument;
  }
  const Status status = pool_.reserve(bytes, minimum);
  if (status != Status::kOk) {
    return status;
  }
  // Pages may be larger than what was asked for; an index has ten bits.
  const size_t slots = pool_.bytes().size() / kSlotLength;
  const auto capacity = static_cast<uint32_t>(slots < kMaxSlots ? slots : kMaxSlots);
  entries_.reset(new (std::nothrow) Entry[capacity]);
  free_.reset(new (std::nothrow) uint32_t[capacity]);
  if (entries_ == nullptr || free_ == nullptr) {
    entries_.reset();
    free_.reset();
    pool_ = LockedPool();
    errno = ENOMEM;
    return Status::kSystemFailed;
  }
  capacity_ = capacity;
  for (uint32_t index = 0; index < capacity_; ++index) {
    free_[index] = index;
    entries_[index].state.store(next_generation(0), std::memory_order_relaxed);
  }
  free_head_ = 0;
  free_count_ = capacity_;
  ready_.store(true, std::memory_order_release);
  return Status::kOk;
}

KeySlot* KeyTable::slot(uint32_t index) const {
  return reinterpret_cast<KeySlot*>(pool_.bytes().data() + size_t{index} * kSlotLength);
}

bool KeyTable::begin_use(uint32_t index, uint32_t generation) {
  std::atomic<uint64_t>& word = entries_[index].state;
  uint64_t state = word.load(std::memory_order_relaxed);
  do {
    if (!usable(state, generation)) {
      return false;
    }
  } while (!word.compare_exchange_weak(state, state + 1, std::memory_order_acquire, std::memory_order_relaxed));
  return true;
}

void KeyTable::end_use(uint32_t index) {
  const uint64_t before = entries_[index].state.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kUses) == 1 && (before & kDoomed) != 0) {
    retire(index);
  }
}

void KeyTable::doom(uint32_t index, uint32_t generation) {
  std::atomic<uint64_t>& word = entries_[index].state;
  uint64_t state = word.load(std::memory_order_relaxed);
  do {
    if (!usable(state, generation)) {
      return;
    }
  } while (!word.compare_exchange_weak(state, state | kDoomed, std::memory_order_acq_rel, std::memory_order_relaxed));
  if ((state & kUses) == 0) {
    retire(index);
  }
}

// Only one thread gets here for a slot: the one that saw it doomed with no use left.
void KeyTable::retire(uint32_t index) {
  wipe({reinterpret_cast<uint8_t*>(slot(index)), kSlotLength});
  Entry& entry = entries_[index];
  entry.owner.store(0, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  entry.state.store(next_generation(entry.state.load(std::memory_order_relaxed)), std::memory_order_release);
  free_[(free_head_ + free_count_) % capacity_] = index;
  ++free_count_;
  ++destroyed_;
}

bool KeyTable::lease(KeyHandle handle, Lease& lease) {
  lease.release();
  const uint32_t index = index_of(handle);
  if (!ready() || index >= capacity_ || !begin_use(index, generation_of(handle))) {
    return false;
  }
  lease.table_ = this;
  lease.index_ = index;
  lease.slot_ = slot(index);
  lease.use_ = entries_[index].use;
  return true;
}

KeyTable::Lease::Lease(Lease&& other) noexcept { *this = std::move(other); }

KeyTable::Lease& KeyTable::Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    release();
    table_ = std::exchange(other.table_, nullptr);
    slot_ = std::exchange(other.slot_, nullptr);
    index_ = other.index_;
    use_ = other.use_;
  }
  return *this;
}

void KeyTable::Lease::release() {
  if (slot_ != nullptr) {
    slot_ = nullptr;
    table_->end_use(index_);
  }
}

Status KeyTable::reserve(KeyUse use, uint32_t owner, Reservation& reservation) {
  if (!ready()) {
    return Status::kNotReady;
  }
  uint32_t index = 0;
  {
    const std::lock_guard lock(mutex_);
    if (free_count_ == 0) {
      return Status::kTableFull;
    }
    index = free_[free_head_];
    free_head_ = (free_head_ + 1) % capacity_;
    --free_count_;
    ++created_;
  }
  entries_[index].use = use;
  entries_[index].owner.store(owner, std::memory_order_relaxed);
  reservation.table_ = this;
  reservation.index_ = index;
  reservation.slot_ = slot(index);
  return Status::kOk;
}

KeyHandle KeyTable::Reservation::publish() {
  Entry& entry = table_->entries_[index_];
  const uint64_t state = entry.state.load(std::memory_order_relaxed) | kLive;
  // Release: a use that finds the slot live also sees its bytes.
  entry.state.store(state, std::memory_order_release);
  slot_ = nullptr;
  return (generation_in(state) << kIndexBits) | index_;
}

KeyTable::Reservation::~Reservation() {
  if (slot_ != nullptr) {
    table_->retire(index_);
  }
}

void KeyTable::destroy(KeyHandle handle) {
  const uint32_t index = index_of(handle);
  if (ready() && index < capacity_) {
    doom(index, generation_of(handle));
  }
}

uint32_t KeyTable::new_owner() { return owners_.fetch_add(1, std::memory_order_relaxed) + 1; }

void KeyTable::destroy_owned(uint32_t owner) {
  if (!ready() || owner == 0) {
    return;
  }
  for (uint32_t index = 0; index < capacity_; ++index) {
    Entry& entry = entries_[index];
    const uint64_t state = entry.state.load(std::memory_order_acquire);
    if ((state & kLive) != 0 && entry.owner.load(std::memory_order_relaxed) == owner) {
      doom(index, generation_in(state));
    }
  }
}

KeyTableStats KeyTable::stats() {
  const std::lock_guard lock(mutex_);
  return {capacity_, capacity_ - static_cast<uint32_t>(free_count_), created_, destroyed_};
}

}  // namespace dekd
