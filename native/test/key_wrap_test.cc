#include "../core/key_wrap.h"

#include <cstring>

#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};
constexpr KeyUse kWrap{Algorithm::kHkdfSha256, Purpose::kWrap};
constexpr KeyUse kMac{Algorithm::kHmacSha256, Purpose::kMac};

struct Fixture final {
  KeyTable table;
  KeyHandle parent = 0;
  KeyHandle key = 0;
  Bytes label = counting(12, 'a');
  Bytes aad = counting(33);

  Fixture() {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    parent = make(kWrap);
    key = make(kSeal);
  }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  Bytes wrap() {
    Bytes wrapped(kWrappedKeyLength);
    expect(wrap_key(table, parent, label, key, aad, std::span<uint8_t, kWrappedKeyLength>(wrapped.data(), 73)) ==
           Status::kOk);
    return wrapped;
  }

  Result<KeyHandle> unwrap(const Bytes& wrapped) { return unwrap_key(table, parent, label, wrapped, aad, kSeal, 0); }
};

const Test kRoundTrip("unwrap_key gives the same key, with the same kid and K1", [] {
  Fixture f;
  const Result<KeyHandle> copy = f.unwrap(f.wrap());
  expect(copy.ok());
  KeyTable::Lease original;
  KeyTable::Lease unwrapped;
  expect(f.table.lease(f.key, original) && f.table.lease(copy.value(), unwrapped));
  expect(std::memcmp(&original.slot(), &unwrapped.slot(), sizeof(KeySlot)) == 0);
});

const Test kTamper("unwrap_key refuses every changed byte and length, and leaves no slot used", [] {
  Fixture f;
  Bytes wrapped = f.wrap();
  const uint32_t used = f.table.stats().used;
  for (uint8_t& byte : wrapped) {
    byte ^= 1;
    expect(f.unwrap(wrapped).status() == Status::kAuthenticationFailed);
    byte ^= 1;
  }
  Bytes longer = wrapped;
  longer.push_back(0);
  expect(f.unwrap(longer).status() == Status::kAuthenticationFailed);
  expect(f.unwrap(Bytes(wrapped.begin(), wrapped.end() - 1)).status() == Status::kAuthenticationFailed);
  expect(f.unwrap({}).status() == Status::kAuthenticationFailed);
  expect(f.table.stats().used == used);
  expect(f.unwrap(wrapped).ok());
});

const Test kBinding("unwrap_key refuses another parent, label or aad", [] {
  Fixture f;
  const Bytes wrapped = f.wrap();
  expect(unwrap_key(f.table, f.make(kWrap), f.label, wrapped, f.aad, kSeal, 0).status() ==
         Status::kAuthenticationFailed);
  expect(unwrap_key(f.table, f.parent, f.aad, wrapped, f.aad, kSeal, 0).status() == Status::kAuthenticationFailed);
  expect(unwrap_key(f.table, f.parent, f.label, wrapped, f.label, kSeal, 0).status() ==
         Status::kAuthenticationFailed);
});

const Test kUses("wrapping needs a parent that wraps, and a mac its algorithm", [] {
  Fixture f;
  Bytes wrapped(kWrappedKeyLength);
  const std::span<uint8_t, kWrappedKeyLength> out(wrapped.data(), 73);
  expect(wrap_key(f.table, f.key, f.label, f.key, f.aad, out) == Status::kWrongUse);
  expect(wrap_key(f.table, f.parent, f.label, 0, f.aad, out) == Status::kStaleKey);
  expect(unwrap_key(f.table, f.key, f.label, f.wrap(), f.aad, kSeal, 0).status() == Status::kWrongUse);
  Bytes mac(32);
  const std::span<uint8_t, 32> mac_out(mac.data(), 32);
  expect(mac_with(f.table, f.parent, {}, f.aad, mac_out) == Status::kWrongUse);
  expect(mac_with(f.table, f.make(kMac), f.label, f.aad, mac_out) == Status::kWrongUse);
  expect(mac_with(f.table, f.make(kMac), {}, f.aad, mac_out) == Status::kOk);
  expect(mac_with(f.table, f.parent, f.label, f.aad, mac_out) == Status::kOk);
});

const Test kDerived("derive_key gives HKDF of its parent, which it outlives, and needs a parent that wraps", [] {
  Fixture f;
  Bytes expected(kKeyLength);
  {
    KeyTable::Lease lease;
    expect(f.table.lease(f.parent, lease));
    expect(hkdf_sha_256(lease.key(), {}, f.label, expected) == Status::kOk);
  }
  const Result<KeyHandle> next = derive_key(f.table, f.parent, f.label, kWrap, 0);
  expect(next.ok());
  f.table.destroy(f.parent);
  KeyTable::Lease lease;
  expect(f.table.lease(next.value(), lease));
  expect(Bytes(lease.key().begin(), lease.key().end()) == expected);
  expect(lease.use() == kWrap);
  expect(derive_key(f.table, f.parent, f.label, kWrap, 0).status() == Status::kStaleKey);
  expect(derive_key(f.table, f.make(kMac), f.label, kWrap, 0).status() == Status::kWrongUse);
});

const Test kFull("unwrap_key says so when the table is full", [] {
  Fixture f;
  const Bytes wrapped = f.wrap();
  while (generate_key(f.table, kSeal, 0).ok()) {
  }
  expect(f.unwrap(wrapped).status() == Status::kTableFull);
});

const Test kKid("key_id is the HMAC of label, algorithm and purpose, and differs by use", [] {
  Fixture f;
  const Bytes bytes = counting(32);
  const std::span<const uint8_t, 32> key(bytes.data(), 32);
  uint8_t kid[16];
  uint8_t other[16];
  uint8_t digest[32];
  expect(key_id(key, kSeal, kid) == Status::kOk && key_id(key, kWrap, other) == Status::kOk);
  expect(std::memcmp(kid, other, sizeof kid) != 0);
  static constexpr char kMessage[] = "dekd/v1/kid\x0cxaes-256-gcm\x04seal";
  expect(hmac_sha_256(key, {{reinterpret_cast<const uint8_t*>(kMessage), sizeof kMessage - 1}}, digest) == Status::kOk);
  expect(std::memcmp(kid, digest, sizeof kid) == 0);
});

}  // namespace
}  // namespace dekd::test
