// Wrapped keys of every form, key files, and frames of the key pipe: what comes from a keystore, a disk and a custodian.

#include "../core/key_wrap.h"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>

#include "../core/data_key.h"
#include "../core/key_pipe.h"
#include "../core/legacy.h"
#include "../core/root_key.h"
#include "fuzz.h"

using namespace dekd;
using namespace dekd::fuzz;

namespace {

struct Keys final {
  KeyHandle parent = made(generate_key(table(), {Algorithm::kHkdfSha256, Purpose::kWrap}, 0));
  KeyHandle message = made(generate_key(table(), kMessageKeyUse, 0));
  KeyHandle raw = made(generate_key(table(), kRawAesUse, 0));
  KeyHandle seal = made(generate_key(table(), {Algorithm::kXaes256Gcm, Purpose::kSeal}, 0));
};

void drop(const Result<KeyHandle>& result) {
  if (result.ok()) {
    table().destroy(result.value());
  }
}

int memory_file(const Bytes& bytes) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  must(fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) &&
           lseek(fd, 0, SEEK_SET) == 0,
       "a file can be made");
  return fd;
}

void unwrap(const Keys& keys, Input& in) {
  const Bytes label = in.bytes(in.byte() % 32);
  const Bytes aad = in.bytes(in.byte());
  Bytes wrapped = in.rest();
  const Result<KeyHandle> any = unwrap_key(table(), keys.parent, label, wrapped, aad, kDataKeyUse, 0);
  must(!any.ok(), "no made-up wrap opens");
  // And a good one that was changed.
  Bytes good(kWrappedKeyLength);
  must(wrap_key(table(), keys.parent, label, keys.seal, aad, std::span<uint8_t, kWrappedKeyLength>(good)) ==
           Status::kOk,
       "a key is wrapped");
  bool changed = false;
  for (size_t i = 0; i < wrapped.size() && i < 4; ++i) {
    good[(i * 31 + wrapped[i]) % good.size()] ^= wrapped[i];
    changed = changed || wrapped[i] != 0;
  }
  const Result<KeyHandle> again =
      unwrap_key(table(), keys.parent, label, good, aad, {Algorithm::kXaes256Gcm, Purpose::kSeal}, 0);
  must(changed || again.ok(), "what was not changed opens");
  drop(again);
}

void unwrap_data(const Keys& keys, Input& in) {
  const Bytes info = in.bytes(in.byte() % 4 == 0 ? in.byte() : kDataKeyInfoLength);
  const Bytes encrypted = in.bytes(in.byte() % 4 == 0 ? in.byte() : kEncryptedDataKeyLength);
  const Bytes name = in.bytes(in.byte() % 32);
  const Bytes context = in.rest();
  must(!unwrap_data_key(table(), keys.message, info, encrypted, context, 0).ok(), "no made-up data key opens");
  // Good ones, changed in as many bytes as the input has left.
  const Bytes own(context.begin(), context.begin() + static_cast<ptrdiff_t>(context.size() / 2));
  Bytes head(kDataKeyInfoLength);
  Bytes body(kEncryptedDataKeyLength);
  static const KeyHandle kData = made(generate_key(table(), kDataKeyUse, 0));
  must(wrap_data_key(table(), keys.message, kData, own, std::span<uint8_t, kDataKeyInfoLength>(head),
                     std::span<uint8_t, kEncryptedDataKeyLength>(body)) == Status::kOk,
       "a data key is wrapped");
  bool changed = false;
  for (size_t i = own.size(); i + 1 < context.size(); i += 2) {
    Bytes& part = (context[i] & 1) != 0 ? head : body;
    part[context[i] % part.size()] ^= context[i + 1];
    changed = changed || context[i + 1] != 0;
  }
  const Result<KeyHandle> opened = unwrap_data_key(table(), keys.message, head, body, own, 0);
  must(changed || opened.ok(), "what was not changed opens");
  drop(opened);
  Bytes tail(name.size() + kRawAesInfoTail);
  must(wrap_data_key_under(table(), keys.raw, name, kData, own, tail,
                           std::span<uint8_t, kEncryptedDataKeyLength>(body)) == Status::kOk,
       "and under a raw key");
  const Result<KeyHandle> under = unwrap_data_key_under(table(), keys.raw, name, tail, body, own, 0);
  must(under.ok(), "it opens");
  drop(under);
  must(!unwrap_data_key_under(table(), keys.raw, name, info, encrypted, context, 0).ok(), "nor one of a raw key");
}

void read_file(Input& in) {
  const uint8_t use = in.byte() % 3;
  const int fd = memory_file(in.rest());
  drop(read_root_key(table(), fd, use == 0 ? kRootUse : use == 1 ? kRawAesUse : kLegacyUse, 0));
  close(fd);
}

void read_pipe(const Keys& keys, Input& in) {
  std::signal(SIGPIPE, SIG_IGN);
  PipeEnds ends;
  must(open_pipe(PipeEnd::kRead, ends), "a pipe opens");
  const uint8_t choice = in.byte();
  const uint32_t id = in.byte();
  const Bytes frames = in.rest();
  (void)!write(ends.write, frames.data(), std::min<size_t>(frames.size(), 32768));
  close(ends.write);
  Bytes out(kMaxPipedToken);
  for (int i = 0; i < 3; ++i) {
    const Status status =
        (choice & 1) != 0
            ? receive_sealed(table(), ends.read, id, keys.seal, {}, out).status()
            : [&] {
                const Result<KeyHandle> key = receive_key(table(), ends.read, id, kPipedUse, 0);
                drop(key);
                return key.status();
              }();
    if (status != Status::kOk) {
      break;
    }
  }
  close(ends.read);
}

void legacy(Input& in) {
  static const KeyHandle kKey = [] {
    Bytes bytes(kKeyLength, 3);
    return made(import_secret(table(), bytes, kLegacyUse, 0));
  }();
  Bytes nonce = in.bytes(kGcmNonceLength);
  nonce.resize(kGcmNonceLength);
  const Bytes sealed = in.rest();
  Bytes out(sealed.size() < kTagLength ? 0 : sealed.size() - kTagLength, 0x55);
  const Status status =
      open_legacy(table(), kKey, std::span<const uint8_t, kGcmNonceLength>(nonce), sealed, out);
  must(status != Status::kOk && all_zero(out), "no made-up envelope opens, and zeros are left");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Keys kKeys;
  const uint32_t used = table().stats().used;
  Input in(data, size);
  switch (in.byte() % 5) {
    case 0:
      unwrap(kKeys, in);
      break;
    case 1:
      unwrap_data(kKeys, in);
      break;
    case 2:
      read_file(in);
      break;
    case 3:
      read_pipe(kKeys, in);
      break;
    default:
      legacy(in);
  }
  // The keys of envelopes and of data are made once, at their first use.
  must(table().stats().used <= used + 2, "no slot is left of what was refused");
  return 0;
}
