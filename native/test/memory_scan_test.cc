#include "../core/memory_scan.h"

#include <cstring>
#include <thread>

#include "../core/key_wrap.h"
#include "../core/secret.h"
#include "../core/token.h"
#include "harness.h"

namespace dekd::test {
namespace {

// Sanitizers keep terabytes of shadow memory, which a scan would walk through.
bool can_scan() {
  if constexpr (kSanitized) {
    skip("a sanitizer's shadow memory is too large to scan");
    return false;
  }
  return true;
}

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};
constexpr KeyUse kWrap{Algorithm::kHkdfSha256, Purpose::kWrap};

struct Fixture final {
  KeyTable table;

  Fixture() { expect(table.open(LockLevel::kHeap) == Status::kOk); }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  uint32_t copies(KeyHandle key) {
    const Result<ScanResult> result = count_copies(table, key);
    expect(result.ok() && result.value().bytes > 100000);
    return result.value().copies;
  }

  // A handle for bytes that are not a key of ours, to look for them. `bytes` are wiped.
  KeyHandle look_for(std::span<uint8_t, 32> bytes) {
    KeyTable::Reservation reservation;
    expect(table.reserve(kSeal, 0, reservation) == Status::kOk);
    std::memcpy(reservation.slot().key, bytes.data(), 32);
    wipe(bytes);
    return reservation.publish();
  }
};

const Test kPlanted("count_copies finds a planted leak, and nothing once it is cleared", [] {
  if (!can_scan()) {
    return;
  }
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  expect(f.copies(key) == 0);
  expect(prove_leak_plant(f.table, key) == Status::kOk);
  expect(f.copies(key) == 1);
  prove_leak_clear();
  expect(f.copies(key) == 0);
  f.table.destroy(key);
  expect(prove_leak_plant(f.table, key) == Status::kStaleKey);
  expect(count_copies(f.table, key).status() == Status::kStaleKey);
});

const Test kBorders("count_copies finds a copy at every offset within two of its steps", [] {
  if (!can_scan()) {
    return;
  }
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  std::vector<uint8_t> room(size_t{3} << 18);
  for (const size_t offset : {size_t{0}, (size_t{1} << 18) - 16, (size_t{1} << 18) + 1, room.size() - 32}) {
    {
      KeyTable::Lease lease;
      expect(f.table.lease(key, lease));
      std::memcpy(room.data() + offset, lease.key().data(), 32);
    }
    expect(f.copies(key) == 1);
    wipe(std::span(room).subspan(offset, 32));
  }
});

const Test kNoCopies("no operation leaves a copy of a key outside of the table", [] {
  if (!can_scan()) {
    return;
  }
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  const KeyHandle parent = f.make(kWrap);
  const std::vector<uint8_t> data = counting(200);
  std::vector<uint8_t> token(data.size() + kTokenOverhead);
  std::vector<uint8_t> opened(data.size());
  uint8_t wrapped[kWrappedKeyLength];
  uint8_t mac[32];
  const auto work = [&] {
    for (int i = 0; i < 20; ++i) {
      expect(seal_token(f.table, key, data, data, token) == Status::kOk);
      expect(open_token(f.table, key, data, token, opened) == Status::kOk);
      token[60] ^= 1;
      expect(open_token(f.table, key, data, token, opened) == Status::kAuthenticationFailed);
      expect(wrap_key(f.table, parent, data, key, data, wrapped) == Status::kOk);
      const Result<KeyHandle> copy = unwrap_key(f.table, parent, data, wrapped, data, kSeal, 0);
      expect(copy.ok());
      f.table.destroy(copy.value());
      expect(mac_with(f.table, parent, data, data, mac) == Status::kOk);
    }
  };
  work();
  expect(f.copies(key) == 0);
  expect(f.copies(parent) == 0);
  // In another thread as well, while its stack and contexts are still there.
  std::thread([&] {
    work();
    expect(f.copies(key) == 0);
    expect(f.copies(parent) == 0);
  }).join();
});

const Test kNoSubkeys("sealing, opening and wrapping leave no derived key behind", [] {
  if (!can_scan()) {
    return;
  }
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  const KeyHandle parent = f.make(kWrap);
  const std::vector<uint8_t> data = counting(200);
  std::vector<uint8_t> token(data.size() + kTokenOverhead);
  std::vector<uint8_t> opened(data.size());
  expect(seal_token(f.table, key, {}, data, token) == Status::kOk);
  const auto derived = [&](KeyHandle from, std::span<const uint8_t> nonce) {
    KeyTable::Lease lease;
    Secret<32> subkey;
    expect(f.table.lease(from, lease));
    expect(xaes_subkey(lease.key(), std::span<const uint8_t, 16>(lease.slot().xaes_k1), nonce.first<12>(),
                       subkey.bytes()) == Status::kOk);
    const KeyHandle handle = f.look_for(subkey.bytes());
    scrub_stack();
    return handle;
  };
  const KeyHandle subkey = derived(key, std::span(token).subspan(18));
  expect(f.copies(subkey) == 0);
  expect(open_token(f.table, key, {}, token, opened) == Status::kOk);
  expect(f.copies(subkey) == 0);

  uint8_t wrapped[kWrappedKeyLength];
  expect(wrap_key(f.table, parent, data, key, {}, wrapped) == Status::kOk);
  KeyHandle wrapping = 0;
  {
    KeyTable::Lease lease;
    Secret<32> bytes;
    expect(f.table.lease(parent, lease));
    expect(hkdf_sha_256(lease.key(), {}, data, bytes.bytes()) == Status::kOk);
    wrapping = f.look_for(bytes.bytes());
    scrub_stack();
  }
  expect(f.copies(wrapping) == 0);
});

}  // namespace
}  // namespace dekd::test
