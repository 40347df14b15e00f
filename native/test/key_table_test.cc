#include "../core/key_table.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "../core/key_wrap.h"
#include "../core/token.h"
#include "harness.h"

namespace dekd::test {
namespace {

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};

KeyHandle make(KeyTable& table, uint32_t owner = 0) {
  const Result<KeyHandle> made = generate_key(table, kSeal, owner);
  expect(made.ok());
  return made.value();
}

const Test kCounts("KeyTable counts what is made and wiped", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const KeyHandle first = make(table);
  make(table);
  table.destroy(first);
  const KeyTableStats stats = table.stats();
  expect(stats.capacity == 1024 && stats.used == 1 && stats.created == 2 && stats.destroyed == 1);
});

const Test kUnopened("KeyTable that was not opened has no keys and takes none", [] {
  KeyTable table;
  KeyTable::Lease lease;
  expect(!table.lease(1025, lease));
  expect(generate_key(table, kSeal, 0).status() == Status::kNotReady);
  table.destroy(1025);
});

const Test kStale("KeyTable refuses handles of destroyed keys, 0 and numbers it never gave out", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const KeyHandle key = make(table);
  KeyTable::Lease lease;
  expect(table.lease(key, lease));
  lease = KeyTable::Lease();
  table.destroy(key);
  expect(!table.lease(key, lease));
  expect(!table.lease(0, lease));
  expect(!table.lease(0xffffffff, lease));
  // The slot is used again, and the old handle does not open the new key.
  for (int i = 0; i < 3000; ++i) {
    table.destroy(make(table));
    expect(!table.lease(key, lease));
  }
});

const Test kWiped("KeyTable wipes a slot when its key is destroyed", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const KeyHandle key = make(table);
  expect(!all_zero(table.extent()));
  table.destroy(key);
  expect(all_zero(table.extent()));
});

const Test kInUse("KeyTable keeps a destroyed key for the uses under way and wipes it after the last", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const KeyHandle key = make(table);
  KeyTable::Lease first;
  KeyTable::Lease second;
  expect(table.lease(key, first) && table.lease(key, second));
  table.destroy(key);
  table.destroy(key);
  KeyTable::Lease late;
  expect(!table.lease(key, late));
  expect(!all_zero(first.key()));
  first = KeyTable::Lease();
  expect(!all_zero(second.key()));
  expect(table.stats().used == 1);
  second = KeyTable::Lease();
  expect(all_zero(table.extent()));
  expect(table.stats().used == 0 && table.stats().destroyed == 1);
});

const Test kFull("KeyTable that is full refuses one more key and takes it after one is destroyed", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  std::set<KeyHandle> handles;
  for (int i = 0; i < 1024; ++i) {
    handles.insert(make(table));
  }
  expect(handles.size() == 1024 && !handles.contains(0));
  expect(generate_key(table, kSeal, 0).status() == Status::kTableFull);
  table.destroy(*handles.begin());
  expect(generate_key(table, kSeal, 0).ok());
});

const Test kAbandoned("a Reservation that is never published leaves a wiped and free slot", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  {
    KeyTable::Reservation reservation;
    expect(table.reserve(kSeal, 0, reservation) == Status::kOk);
    std::memset(reservation.slot().key, 0xaa, kKeyLength);
  }
  expect(all_zero(table.extent()));
  expect(table.stats().used == 0);
});

const Test kOwned("destroy_owned wipes the keys of its owner and no others", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const uint32_t one = table.new_owner();
  const uint32_t two = table.new_owner();
  const KeyHandle first = make(table, one);
  const KeyHandle second = make(table, two);
  table.destroy_owned(one);
  KeyTable::Lease lease;
  expect(!table.lease(first, lease));
  expect(table.lease(second, lease));
});

const Test kThreads("threads make, use and destroy keys at the same time without a wrong answer", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  std::atomic<int> wrong{0};
  std::atomic<KeyHandle> shared{make(table)};
  const auto work = [&](unsigned seed) {
    const std::vector<uint8_t> plaintext = counting(48);
    for (unsigned i = 0; i < 400; ++i) {
      // A key that another thread may be destroying: it works whole or is stale.
      uint8_t token[48 + kTokenOverhead];
      uint8_t opened[48];
      const KeyHandle key = shared.load();
      const Status sealed = seal_token(table, key, {}, plaintext, token);
      if (sealed == Status::kOk) {
        const Status status = open_token(table, key, {}, token, opened);
        wrong += status == Status::kStaleKey ||
                         (status == Status::kOk && std::memcmp(opened, plaintext.data(), sizeof opened) == 0)
                     ? 0
                     : 1;
      } else if (sealed != Status::kStaleKey) {
        ++wrong;
      }
      if ((i + seed) % 7 == 0) {
        const Result<KeyHandle> next = generate_key(table, kSeal, 0);
        wrong += next.ok() ? 0 : 1;
        table.destroy(shared.exchange(next.value()));
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 8; ++seed) {
    threads.emplace_back(work, seed);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  expect(wrong == 0);
  expect(table.stats().used == 1);
  table.destroy(shared);
  expect(all_zero(table.extent()));
});

const Test kBatches("batches on several threads open whole, or say that their key is gone", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  constexpr uint32_t kRows = 64;
  constexpr uint32_t kLength = 32;
  constexpr uint32_t kToken = kLength + kTokenOverhead;
  std::atomic<int> wrong{0};
  std::atomic<KeyHandle> shared{make(table)};
  const auto work = [&](unsigned seed) {
    const std::vector<uint8_t> plaintext = counting(kLength);
    std::vector<uint8_t> tokens(kRows * kToken);
    std::vector<uint8_t> opened(kRows * kLength);
    std::vector<uint32_t> seal(kRows * kRowWords);
    std::vector<uint32_t> open(kRows * kRowWords);
    for (unsigned round = 0; round < 60; ++round) {
      const KeyHandle key = shared.load();
      for (uint32_t row = 0; row < kRows; ++row) {
        const uint32_t sealing[kRowWords] = {key, 0, 0, 0, kLength, row * kToken, 0, 0};
        const uint32_t opening[kRowWords] = {key, 0, 0, row * kToken, kToken, row * kLength, 0, 0};
        std::copy(std::begin(sealing), std::end(sealing), seal.begin() + row * kRowWords);
        std::copy(std::begin(opening), std::end(opening), open.begin() + row * kRowWords);
      }
      wrong += seal_many(table, seal, plaintext, tokens) == Status::kOk ? 0 : 1;
      wrong += open_many(table, open, tokens, opened) == Status::kOk ? 0 : 1;
      for (uint32_t row = 0; row < kRows; ++row) {
        const uint32_t sealed = seal[row * kRowWords + 6];
        const uint32_t status = open[row * kRowWords + 6];
        const bool whole = std::equal(plaintext.begin(), plaintext.end(), opened.begin() + row * kLength);
        // 0: done, 2: its key is gone. A row that was sealed opens, unless its key went in between.
        wrong += sealed == 0 ? (status == 2 || (status == 0 && whole) ? 0 : 1) : (sealed == 2 ? 0 : 1);
      }
      if ((round + seed) % 5 == 0) {
        const Result<KeyHandle> next = generate_key(table, kSeal, 0);
        wrong += next.ok() ? 0 : 1;
        table.destroy(shared.exchange(next.value()));
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 8; ++seed) {
    threads.emplace_back(work, seed);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  expect(wrong == 0);
  table.destroy(shared);
  expect(all_zero(table.extent()));
});

}  // namespace
}  // namespace dekd::test
