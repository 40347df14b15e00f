#include "../core/legacy.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "../core/key_pipe.h"
#include "../core/memory_scan.h"
#include "../core/random.h"
#include "../core/root_key.h"
#include "../core/secret.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint8_t kNonce[kGcmNonceLength] = {1, 2, 3};

struct Fixture final {
  KeyTable table;
  Bytes key = counting(kKeyLength, 7);

  Fixture() { expect(table.open(LockLevel::kHeap) == Status::kOk); }

  KeyHandle import() {
    Bytes copy = key;
    const Result<KeyHandle> handle = import_secret(table, copy, kLegacyUse, 1);
    expect(handle.ok() && all_zero(copy));
    return handle.value();
  }

  Bytes sealed(const Bytes& plaintext) {
    Bytes out(plaintext.size() + kTagLength);
    Gcm gcm(Direction::kSeal);
    expect(gcm.start(std::span<const uint8_t, 32>(key.data(), 32), kNonce) == Status::kOk);
    expect(gcm.seal({}, plaintext, out.data(), std::span<uint8_t>(out).last<kTagLength>()) == Status::kOk);
    return out;
  }

  // What read_root_key makes of a file with this content.
  Result<KeyHandle> read(const Bytes& content) {
    int ends[2];
    expect(pipe(ends) == 0);
    expect(write(ends[1], content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    close(ends[1]);
    const Result<KeyHandle> handle = read_root_key(table, ends[0], kLegacyUse, 1);
    close(ends[0]);
    return handle;
  }
};

const Test kOpens("open_legacy opens what was sealed with the same key and nonce, and leaves zeros of anything else", [] {
  Fixture fixture;
  const KeyHandle key = fixture.import();
  for (const size_t size : {0, 1, 15, 16, 17, 4096}) {
    const Bytes plaintext = counting(size);
    const Bytes sealed = fixture.sealed(plaintext);
    Bytes out(size, 0xee);
    expect(open_legacy(fixture.table, key, kNonce, sealed, out) == Status::kOk && out == plaintext);
    for (const size_t at : {size_t{0}, size, size + kTagLength - 1}) {
      Bytes changed = sealed;
      changed[at] ^= 1;
      out.assign(size, 0xee);
      expect(open_legacy(fixture.table, key, kNonce, changed, out) == Status::kAuthenticationFailed && all_zero(out));
    }
  }
});

const Test kLengths("open_legacy refuses lengths that do not fit and regions that overlap", [] {
  Fixture fixture;
  const KeyHandle key = fixture.import();
  Bytes sealed = fixture.sealed(counting(20));
  Bytes out(21);
  expect(open_legacy(fixture.table, key, kNonce, sealed, out) == Status::kInvalidArgument);
  expect(open_legacy(fixture.table, key, kNonce, sealed, std::span(sealed).first(20)) == Status::kInvalidArgument);
  expect(open_legacy(fixture.table, key, kNonce, std::span(sealed).first(15), {}) == Status::kAuthenticationFailed);
  expect(open_legacy(fixture.table, key, kNonce, {}, {}) == Status::kAuthenticationFailed);
});

const Test kUse("open_legacy takes no key of another use", [] {
  Fixture fixture;
  Bytes copy = fixture.key;
  const Result<KeyHandle> other = import_secret(fixture.table, copy, kRootUse, 1);
  Bytes out(20);
  expect(open_legacy(fixture.table, other.value(), kNonce, fixture.sealed(counting(20)), out) == Status::kWrongUse);
  const KeyHandle gone = fixture.import();
  fixture.table.destroy(gone);
  expect(open_legacy(fixture.table, gone, kNonce, fixture.sealed(counting(20)), out) == Status::kStaleKey);
  const KeyHandle key = fixture.import();
  Bytes exposed(kKeyLength);
  expect(expose_secret(fixture.table, key, std::span<uint8_t>(exposed).first<kKeyLength>()) == Status::kWrongUse);
});

const Test kFiles("a legacy key is read from its 32 bytes, and from nothing a byte shorter or longer", [] {
  Fixture fixture;
  const Bytes sealed = fixture.sealed(counting(20));
  const Result<KeyHandle> key = fixture.read(fixture.key);
  Bytes out(20);
  expect(key.ok() && open_legacy(fixture.table, key.value(), kNonce, sealed, out) == Status::kOk);
  for (const size_t length : {0, 31, 33, 46}) {
    expect(fixture.read(counting(length)).status() == Status::kMalformedKey);
  }
});

const Test kNoCopies("open_legacy leaves no copy of the key outside of the table", [] {
  if constexpr (kSanitized) {
    skip("a sanitizer's shadow memory is too large to scan");
    return;
  }
  Fixture fixture;
  // Bytes that count are in the plaintext too.
  expect(fill_random(fixture.key) == Status::kOk);
  const Bytes sealed = fixture.sealed(counting(4096));
  const KeyHandle key = fixture.import();
  wipe(fixture.key);
  Bytes out(4096);
  for (int i = 0; i < 8; ++i) {
    expect(open_legacy(fixture.table, key, kNonce, sealed, out) == Status::kOk);
  }
  Bytes wrong = sealed;
  wrong[0] ^= 1;
  expect(open_legacy(fixture.table, key, kNonce, wrong, out) == Status::kAuthenticationFailed);
  const Result<ScanResult> found = count_copies(fixture.table, key);
  expect(found.ok() && found.value().copies == 0);
});

}  // namespace
}  // namespace dekd::test
