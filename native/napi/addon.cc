// The addon's exports: convert, call one function of the core, convert back. Failures are numbers (core/status.h), as
// JavaScript composes the errors; functions that make a key return its handle or a negative status.
//
// Node may load this once in each worker thread. What the environments share is the key table; what one environment
// owns is the keys made in it, which end with it.

#include <napi.h>
#include <openssl/crypto.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "../core/data_key.h"
#include "../core/file_lock.h"
#include "../core/given_nonce.h"
#include "../core/hmac.h"
#include "../core/key_pipe.h"
#include "../core/key_table.h"
#include "../core/key_wrap.h"
#include "../core/legacy.h"
#include "../core/memory_scan.h"
#include "../core/message.h"
#include "../core/peer_identity.h"
#include "../core/process_hardening.h"
#include "../core/random.h"
#include "../core/root_key.h"
#include "../core/self_test.h"
#include "arguments.h"
#include "file_calls.h"
#include "hot_calls.h"
#include "lane_calls.h"

namespace dekd {
namespace {

// Environment is the state of one Node environment (the main thread or a worker). Its end destroys the keys made in it:
// a worker that is terminated never gets to close its engine.
class Environment final {
 public:
  Environment() = default;
  ~Environment() {
    for (const uint32_t owner : owners_) {
      KeyTable::shared().destroy_owned(owner);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  uint32_t add_owner() {
    owners_.push_back(KeyTable::shared().new_owner());
    return owners_.back();
  }

  // Makes the array of CallWords; it lives as long as the environment. Null when it cannot be made.
  CallWords* make_words(Napi::Env env) {
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, sizeof(CallWords));
    Napi::Float64Array words = Napi::Float64Array::New(env, sizeof(CallWords) / sizeof(double), buffer, 0);
    if (env.IsExceptionPending()) {
      return nullptr;
    }
    words_ = Napi::Persistent(words);
    return std::construct_at(static_cast<CallWords*>(buffer.Data()));
  }
  Napi::Float64Array words() const { return words_.Value(); }

 private:
  std::vector<uint32_t> owners_;
  Napi::Reference<Napi::Float64Array> words_;
};

// errno of the last call on this thread that answered kSystemFailed or kPipeFailed: Node's own calls overwrite errno
// before JavaScript could ask.
thread_local int last_errno = 0;

void keep_errno(Status status) {
  if (status == Status::kSystemFailed || status == Status::kPipeFailed) {
    last_errno = errno;
  }
}

Napi::Value answer(const Napi::CallbackInfo& info, Status status) {
  keep_errno(status);
  return Napi::Number::New(info.Env(), static_cast<int32_t>(status));
}

// Of a function that gives a handle or a length, both of them positive.
Napi::Value answer(const Napi::CallbackInfo& info, const Result<uint32_t>& result) {
  if (result.ok()) {
    return Napi::Number::New(info.Env(), result.value());
  }
  keep_errno(result.status());
  return Napi::Number::New(info.Env(), -static_cast<int32_t>(result.status()));
}

bool key_use(uint32_t algorithm, uint32_t purpose, KeyUse& use) {
  if (algorithm > static_cast<uint32_t>(Algorithm::kAes256Gcm) || purpose > static_cast<uint32_t>(Purpose::kIndex)) {
    return false;
  }
  use = {static_cast<Algorithm>(algorithm), static_cast<Purpose>(purpose)};
  return true;
}

// ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────

// openTable(minimum level): status
Napi::Value OpenTable(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t minimum = arguments.number();
  if (!arguments.ok() || minimum > static_cast<uint32_t>(LockLevel::kHeap)) {
    return answer(info, Status::kInvalidArgument);
  }
  return answer(info, KeyTable::shared().open(static_cast<LockLevel>(minimum)));
}

// memory(): { level, secretErrno, lockedErrno, lockLimit }; the limit in bytes is RLIMIT_MEMLOCK, -1 for none.
Napi::Value Memory(const Napi::CallbackInfo& info) {
  KeyTable& table = KeyTable::shared();
  const LockReasons reasons = table.reasons();
  rlimit limit{};
  const bool limited = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("level", static_cast<int32_t>(table.level()));
  result.Set("secretErrno", reasons.secret_errno);
  result.Set("lockedErrno", reasons.locked_errno);
  result.Set("lockLimit", limited ? static_cast<double>(limit.rlim_cur) : -1.0);
  return result;
}

// stats(): { capacity, used, created, destroyed }
Napi::Value Stats(const Napi::CallbackInfo& info) {
  const KeyTableStats stats = KeyTable::shared().stats();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("capacity", stats.capacity);
  result.Set("used", stats.used);
  result.Set("created", static_cast<double>(stats.created));
  result.Set("destroyed", static_cast<double>(stats.destroyed));
  return result;
}

// newOwner(): number to make keys under
Napi::Value NewOwner(const Napi::CallbackInfo& info) {
  Environment* const environment = info.Env().GetInstanceData<Environment>();
  return Napi::Number::New(info.Env(), environment == nullptr ? 0 : environment->add_owner());
}

// destroyOwned(owner): status
Napi::Value DestroyOwned(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  if (!arguments.ok()) {
    return answer(info, Status::kInvalidArgument);
  }
  KeyTable::shared().destroy_owned(owner);
  return answer(info, Status::kOk);
}

// ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────

// generateKey(owner, algorithm, purpose): handle or -status
Napi::Value GenerateKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  if (!arguments.ok() || !key_use(algorithm, purpose, use)) {
    return answer(info, Result<KeyHandle>(Status::kInvalidArgument));
  }
  return answer(info, generate_key(KeyTable::shared(), use, owner));
}

// readRootKey(owner, fd, algorithm, purpose): handle or -status
Napi::Value ReadRootKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const int fd = arguments.descriptor();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  if (!arguments.ok() || !key_use(algorithm, purpose, use)) {
    return answer(info, Result<KeyHandle>(Status::kInvalidArgument));
  }
  return answer(info, read_root_key(KeyTable::shared(), fd, use, owner));
}

// writeRootKey(fd): status
Napi::Value WriteRootKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  return answer(info, arguments.ok() ? write_root_key(fd) : Status::kInvalidArgument);
}

// writeKey(handle, fd): status
Napi::Value WriteKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const int fd = arguments.descriptor();
  return answer(info, arguments.ok() ? write_key_line(KeyTable::shared(), key, fd) : Status::kInvalidArgument);
}

// destroyKey(handle): status
Napi::Value DestroyKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  if (arguments.ok()) {
    KeyTable::shared().destroy(key);
  }
  return answer(info, Status::kOk);
}

// kid(handle, out 16): status
Napi::Value Kid(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const auto out = arguments.bytes_of_length<kKidLength>();
  KeyTable::Lease lease;
  if (!arguments.ok()) {
    return answer(info, Status::kInvalidArgument);
  }
  if (!KeyTable::shared().lease(key, lease)) {
    return answer(info, Status::kStaleKey);
  }
  std::memcpy(out.data(), lease.kid().data(), out.size());
  return answer(info, Status::kOk);
}

// wrapKey(parent, label, key, aad, out 73): status
Napi::Value WrapKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle parent = arguments.number();
  const std::span<const uint8_t> label = arguments.bytes();
  const KeyHandle key = arguments.number();
  const std::span<const uint8_t> aad = arguments.bytes();
  const auto out = arguments.bytes_of_length<kWrappedKeyLength>();
  return answer(info, arguments.ok() ? wrap_key(KeyTable::shared(), parent, label, key, aad, out)
                                     : Status::kInvalidArgument);
}

// unwrapKey(owner, parent, label, wrapped, aad, algorithm, purpose): handle or -status
Napi::Value UnwrapKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle parent = arguments.number();
  const std::span<const uint8_t> label = arguments.bytes();
  const std::span<const uint8_t> wrapped = arguments.bytes();
  const std::span<const uint8_t> aad = arguments.bytes();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  if (!arguments.ok() || !key_use(algorithm, purpose, use)) {
    return answer(info, Result<KeyHandle>(Status::kInvalidArgument));
  }
  return answer(info, unwrap_key(KeyTable::shared(), parent, label, wrapped, aad, use, owner));
}

// deriveKey(owner, parent, label, algorithm, purpose): handle or -status
Napi::Value DeriveKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle parent = arguments.number();
  const std::span<const uint8_t> label = arguments.bytes();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  if (!arguments.ok() || !key_use(algorithm, purpose, use)) {
    return answer(info, Result<KeyHandle>(Status::kInvalidArgument));
  }
  return answer(info, derive_key(KeyTable::shared(), parent, label, use, owner));
}

// mac(parent, label, data, out 32): status
Napi::Value Mac(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle parent = arguments.number();
  const std::span<const uint8_t> label = arguments.bytes();
  const std::span<const uint8_t> data = arguments.bytes();
  const auto out = arguments.bytes_of_length<kDigestLength>();
  return answer(info, arguments.ok() ? mac_with(KeyTable::shared(), parent, label, data, out)
                                     : Status::kInvalidArgument);
}

// verifyMac(parent, label, data, expected): status, kAuthenticationFailed when it differs
Napi::Value VerifyMac(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle parent = arguments.number();
  const std::span<const uint8_t> label = arguments.bytes();
  const std::span<const uint8_t> data = arguments.bytes();
  const std::span<const uint8_t> expected = arguments.bytes();
  uint8_t actual[kDigestLength];
  if (!arguments.ok()) {
    return answer(info, Status::kInvalidArgument);
  }
  Status status = mac_with(KeyTable::shared(), parent, label, data, actual);
  if (status == Status::kOk &&
      (expected.size() != sizeof actual || CRYPTO_memcmp(actual, expected.data(), sizeof actual) != 0)) {
    status = Status::kAuthenticationFailed;
  }
  return answer(info, status);
}

// ── the key pipe ────────────────────────────────────────────────────────────────────────────────────────────────────

// openPipe(own end): { read, write } or errno
Napi::Value OpenPipe(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t own = arguments.number();
  PipeEnds ends;
  if (!arguments.ok() || own > static_cast<uint32_t>(PipeEnd::kWrite)) {
    return Napi::Number::New(info.Env(), EINVAL);
  }
  if (!open_pipe(static_cast<PipeEnd>(own), ends)) {
    return Napi::Number::New(info.Env(), errno);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("read", ends.read);
  result.Set("write", ends.write);
  return result;
}

// sendKey(fd, id, key): status
Napi::Value SendKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  const uint32_t id = arguments.number();
  const KeyHandle key = arguments.number();
  return answer(info, arguments.ok() ? send_key(KeyTable::shared(), fd, id, key) : Status::kInvalidArgument);
}

// receiveKey(owner, fd, id, algorithm, purpose): handle or -status
Napi::Value ReceiveKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const int fd = arguments.descriptor();
  const uint32_t id = arguments.number();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  return answer(info, arguments.ok() && key_use(algorithm, purpose, use)
                          ? receive_key(KeyTable::shared(), fd, id, use, owner)
                          : Result<KeyHandle>(Status::kInvalidArgument));
}

// receiveSealed(fd, id, key, context, out 16442): length of the token or -status
Napi::Value ReceiveSealed(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  const uint32_t id = arguments.number();
  const KeyHandle key = arguments.number();
  const std::span<const uint8_t> context = arguments.bytes();
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? receive_sealed(KeyTable::shared(), fd, id, key, context, out)
                                     : Result<uint32_t>(Status::kInvalidArgument));
}

// sendOpened(fd, id, key, token, context): status
Napi::Value SendOpened(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  const uint32_t id = arguments.number();
  const KeyHandle key = arguments.number();
  const std::span<const uint8_t> token = arguments.bytes();
  const std::span<const uint8_t> context = arguments.bytes();
  return answer(info, arguments.ok() ? send_opened(KeyTable::shared(), fd, id, key, token, context)
                                     : Status::kInvalidArgument);
}

// importSecret(owner, bytes, algorithm, purpose): handle or -status; the bytes are zeros afterwards
Napi::Value ImportSecret(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const std::span<uint8_t> bytes = arguments.bytes();
  const uint32_t algorithm = arguments.number();
  const uint32_t purpose = arguments.number();
  KeyUse use;
  return answer(info, arguments.ok() && key_use(algorithm, purpose, use)
                          ? import_secret(KeyTable::shared(), bytes, use, owner)
                          : Result<KeyHandle>(Status::kInvalidArgument));
}

// exposeSecret(key, out 32): status
Napi::Value ExposeSecret(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const auto out = arguments.bytes_of_length<kKeyLength>();
  return answer(info, arguments.ok() ? expose_secret(KeyTable::shared(), key, out) : Status::kInvalidArgument);
}

// ── values that applications sealed before ────────────────────────────────────────────────────────────────────────────

// openLegacy(key, nonce 12, sealed, out): status
Napi::Value OpenLegacy(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const auto nonce = arguments.bytes_of_length<kGcmNonceLength>();
  const std::span<const uint8_t> sealed = arguments.bytes();
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? open_legacy(KeyTable::shared(), key, nonce, sealed, out)
                                     : Status::kInvalidArgument);
}

// ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

// wrapDataKey(message key, data key, context, info 77, out 48): status
Napi::Value WrapDataKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message_key = arguments.number();
  const KeyHandle data_key = arguments.number();
  const std::span<const uint8_t> context = arguments.bytes();
  const auto provider_info = arguments.bytes_of_length<kDataKeyInfoLength>();
  const auto out = arguments.bytes_of_length<kEncryptedDataKeyLength>();
  return answer(info, arguments.ok() ? wrap_data_key(KeyTable::shared(), message_key, data_key, context,
                                                     provider_info, out)
                                     : Status::kInvalidArgument);
}

// unwrapDataKey(owner, message key, info, encrypted, context): handle or -status
Napi::Value UnwrapDataKey(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle message_key = arguments.number();
  const std::span<const uint8_t> provider_info = arguments.bytes();
  const std::span<const uint8_t> encrypted = arguments.bytes();
  const std::span<const uint8_t> context = arguments.bytes();
  return answer(info, arguments.ok() ? unwrap_data_key(KeyTable::shared(), message_key, provider_info, encrypted,
                                                       context, owner)
                                     : Result<KeyHandle>(Status::kInvalidArgument));
}

// wrapDataKeyUnder(wrapping key, name, data key, context, info, out 48): status
Napi::Value WrapDataKeyUnder(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle wrapping_key = arguments.number();
  const std::span<const uint8_t> name = arguments.bytes();
  const KeyHandle data_key = arguments.number();
  const std::span<const uint8_t> context = arguments.bytes();
  const std::span<uint8_t> provider_info = arguments.bytes();
  const auto out = arguments.bytes_of_length<kEncryptedDataKeyLength>();
  return answer(info, arguments.ok() ? wrap_data_key_under(KeyTable::shared(), wrapping_key, name, data_key, context,
                                                           provider_info, out)
                                     : Status::kInvalidArgument);
}

// unwrapDataKeyUnder(owner, wrapping key, name, info, encrypted, context): handle or -status
Napi::Value UnwrapDataKeyUnder(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle wrapping_key = arguments.number();
  const std::span<const uint8_t> name = arguments.bytes();
  const std::span<const uint8_t> provider_info = arguments.bytes();
  const std::span<const uint8_t> encrypted = arguments.bytes();
  const std::span<const uint8_t> context = arguments.bytes();
  return answer(info, arguments.ok() ? unwrap_data_key_under(KeyTable::shared(), wrapping_key, name, provider_info,
                                                             encrypted, context, owner)
                                     : Result<KeyHandle>(Status::kInvalidArgument));
}

// beginMessage(owner, data key, frame length, id 32, commitment 32): handle or -status
Napi::Value BeginMessage(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle data_key = arguments.number();
  const uint32_t frame_length = arguments.number();
  const auto id = arguments.bytes_of_length<kMessageIdLength>();
  const auto commitment = arguments.bytes_of_length<kCommitmentLength>();
  return answer(info, arguments.ok()
                          ? begin_message(KeyTable::shared(), data_key, frame_length, owner, id, commitment)
                          : Result<KeyHandle>(Status::kInvalidArgument));
}

// resumeMessage(owner, data key, suite, id 32, frame length, commitment 32): handle or -status
Napi::Value ResumeMessage(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t owner = arguments.number();
  const KeyHandle data_key = arguments.number();
  const uint32_t suite = arguments.number();
  const auto id = arguments.bytes_of_length<kMessageIdLength>();
  const uint32_t frame_length = arguments.number();
  const auto commitment = arguments.bytes_of_length<kCommitmentLength>();
  const bool known = suite == static_cast<uint32_t>(MessageSuite::kCommitted) ||
                     suite == static_cast<uint32_t>(MessageSuite::kSigned);
  return answer(info, arguments.ok() && known
                          ? resume_message(KeyTable::shared(), data_key, static_cast<MessageSuite>(suite), id,
                                           frame_length, commitment, owner)
                          : Result<KeyHandle>(Status::kInvalidArgument));
}

// sealHeader(message, header, required, out 16): status
Napi::Value SealHeader(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message = arguments.number();
  const std::span<const uint8_t> header = arguments.bytes();
  const std::span<const uint8_t> required = arguments.bytes();
  const auto tag = arguments.bytes_of_length<kTagLength>();
  return answer(info, arguments.ok() ? seal_header(KeyTable::shared(), message, header, required, tag)
                                     : Status::kInvalidArgument);
}

// verifyHeader(message, header, required, tag 16): status
Napi::Value VerifyHeader(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message = arguments.number();
  const std::span<const uint8_t> header = arguments.bytes();
  const std::span<const uint8_t> required = arguments.bytes();
  const auto tag = arguments.bytes_of_length<kTagLength>();
  return answer(info, arguments.ok() ? verify_header(KeyTable::shared(), message, header, required, tag)
                                     : Status::kInvalidArgument);
}

// sealFrames(message, plaintext, 0 or 1 for final, out): status
Napi::Value SealFrames(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message = arguments.number();
  const std::span<const uint8_t> plaintext = arguments.bytes();
  const bool final = arguments.number() != 0;
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? seal_frames(KeyTable::shared(), message, plaintext, final, out)
                                     : Status::kInvalidArgument);
}

// openFrames(message, body, out): { consumed, produced, final } or status
Napi::Value OpenFrames(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message = arguments.number();
  const std::span<const uint8_t> body = arguments.bytes();
  const std::span<uint8_t> out = arguments.bytes();
  OpenedFrames opened;
  const Status status = arguments.ok() ? open_frames(KeyTable::shared(), message, body, out, opened)
                                       : Status::kInvalidArgument;
  if (status != Status::kOk) {
    return answer(info, status);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("consumed", static_cast<double>(opened.consumed));
  result.Set("produced", static_cast<double>(opened.produced));
  result.Set("final", opened.final);
  return result;
}

// seekFrame(message, sequence): status
Napi::Value SeekFrame(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle message = arguments.number();
  const uint32_t sequence = arguments.number();
  return answer(info, arguments.ok() ? seek_frame(KeyTable::shared(), message, sequence) : Status::kInvalidArgument);
}

// ── randomness ──────────────────────────────────────────────────────────────────────────────────────────────────────

// random(out): status
Napi::Value Random(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? fill_random(out) : Status::kInvalidArgument);
}

// setSnapshotSafe(0 or 1): status
Napi::Value SetSnapshotSafe(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t on = arguments.number();
  if (arguments.ok()) {
    set_snapshot_safe(on != 0);
  }
  return answer(info, Status::kOk);
}

// ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────────

// peerIdentity(fd): { uid, gid, groups } or errno
Napi::Value GetPeerIdentity(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  PeerIdentity peer;
  if (!arguments.ok() || !peer_identity(fd, peer)) {
    return Napi::Number::New(info.Env(), arguments.ok() ? errno : EINVAL);
  }
  Napi::Array groups = Napi::Array::New(info.Env(), peer.groups.size());
  for (uint32_t i = 0; i < peer.groups.size(); ++i) {
    groups.Set(i, peer.groups[i]);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("uid", peer.uid);
  result.Set("gid", peer.gid);
  result.Set("groups", groups);
  return result;
}

// lockFile(fd): 0 taken, -1 held elsewhere, errno
Napi::Value LockFile(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  if (!arguments.ok()) {
    return Napi::Number::New(info.Env(), EINVAL);
  }
  switch (lock_file(fd)) {
    case FileLock::kTaken:
      return Napi::Number::New(info.Env(), 0);
    case FileLock::kHeldElsewhere:
      return Napi::Number::New(info.Env(), -1);
    case FileLock::kFailed:
      break;
  }
  return Napi::Number::New(info.Env(), errno);
}

// hardenProcess(): bits of the measures taken
Napi::Value HardenProcess(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), harden_process()); }

// countCopies(handle): { copies, bytes } or status
Napi::Value CountCopies(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const Result<ScanResult> result =
      arguments.ok() ? count_copies(KeyTable::shared(), key) : Result<ScanResult>(Status::kInvalidArgument);
  if (!result.ok()) {
    return answer(info, result.status());
  }
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("copies", result.value().copies);
  object.Set("bytes", static_cast<double>(result.value().bytes));
  return object;
}

// proveLeakPlant(handle): status
Napi::Value ProveLeakPlant(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  return answer(info, arguments.ok() ? prove_leak_plant(KeyTable::shared(), key) : Status::kInvalidArgument);
}

// proveLeakClear(): status
Napi::Value ProveLeakClear(const Napi::CallbackInfo& info) {
  prove_leak_clear();
  return answer(info, Status::kOk);
}

// laneErrno(): the same of the calls of lane_calls.h
Napi::Value LaneErrno(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), lane_errno()); }

// lastErrno(): errno of the last kSystemFailed or kPipeFailed of this thread
Napi::Value LastErrno(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), last_errno); }

// ── given nonces, for published vectors ─────────────────────────────────────────────────────────────────────────────

template <size_t kNonceLength>
using GivenNonce = Status (*)(std::span<const uint8_t, 32>, std::span<const uint8_t, kNonceLength>,
                              std::span<const uint8_t>, std::span<const uint8_t>, std::span<uint8_t>);

// NAME(key, nonce, aad, input, out): status
template <size_t kNonceLength, GivenNonce<kNonceLength> kFunction>
Napi::Value WithGivenNonce(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto key = arguments.bytes_of_length<32>();
  const auto nonce = arguments.bytes_of_length<kNonceLength>();
  const std::span<const uint8_t> aad = arguments.bytes();
  const std::span<const uint8_t> input = arguments.bytes();
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? kFunction(key, nonce, aad, input, out) : Status::kInvalidArgument);
}

// vectorHkdf(secret, salt, info, out): status
Napi::Value VectorHkdf(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<const uint8_t> secret = arguments.bytes();
  const std::span<const uint8_t> salt = arguments.bytes();
  const std::span<const uint8_t> label = arguments.bytes();
  const std::span<uint8_t> out = arguments.bytes();
  return answer(info, arguments.ok() ? hkdf_sha_256(secret, salt, label, out) : Status::kInvalidArgument);
}

// vectorHmac(key, data, out 32): status
Napi::Value VectorHmac(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<const uint8_t> key = arguments.bytes();
  const std::span<const uint8_t> data = arguments.bytes();
  const auto out = arguments.bytes_of_length<kDigestLength>();
  return answer(info, arguments.ok() ? hmac_sha_256(key, {data}, out) : Status::kInvalidArgument);
}

// ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

void set_raw(Napi::Env env, Napi::Object exports, const char* name, napi_callback function, void* data) {
  napi_value value = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, function, data, &value) == napi_ok) {
    exports.Set(name, Napi::Value(env, value));
  }
}

using Function = Napi::Value (*)(const Napi::CallbackInfo&);

template <Function kFunction>
void set(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<kFunction>(env, name));
}

Napi::Object refuse(Napi::Env env, const char* message) {
  Napi::Error::New(env, message).ThrowAsJavaScriptException();
  return {};
}

const char* text_of(const char* text) { return text == nullptr ? "" : text; }

Napi::Object init(Napi::Env env, Napi::Object exports) {
  if (!supported_openssl()) {
    return refuse(env, "the OpenSSL in this Node has another major version than the addon was built for");
  }
  // Once a process: the second environment finds the same library.
  static const Status kSelfTest = self_test();
  if (kSelfTest != Status::kOk) {
    return refuse(env, "the self-test failed: OpenSSL in this Node does not give the known answers");
  }
  auto environment = std::make_unique<Environment>();
  CallWords* const words = environment->make_words(env);
  if (words == nullptr) {
    return {};
  }
  exports.Set("callWords", environment->words());
  set_raw(env, exports, "seal", Seal, words);
  set_raw(env, exports, "open", Open, words);
  set_raw(env, exports, "sealMany", SealMany, nullptr);
  set_raw(env, exports, "openMany", OpenMany, nullptr);
  set_raw(env, exports, "macMany", MacMany, nullptr);
  set_raw(env, exports, "verifyMacMany", VerifyMacMany, nullptr);
  // Node owns it from here on and deletes it when the environment ends.
  env.SetInstanceData(environment.release());

  set<OpenTable>(env, exports, "openTable");
  set<Memory>(env, exports, "memory");
  set<Stats>(env, exports, "stats");
  set<NewOwner>(env, exports, "newOwner");
  set<DestroyOwned>(env, exports, "destroyOwned");
  set<GenerateKey>(env, exports, "generateKey");
  set<ReadRootKey>(env, exports, "readRootKey");
  set<WriteRootKey>(env, exports, "writeRootKey");
  set<WriteKey>(env, exports, "writeKey");
  set<DestroyKey>(env, exports, "destroyKey");
  set<Kid>(env, exports, "kid");
  set<WrapKey>(env, exports, "wrapKey");
  set<UnwrapKey>(env, exports, "unwrapKey");
  set<DeriveKey>(env, exports, "deriveKey");
  set<Mac>(env, exports, "mac");
  set<VerifyMac>(env, exports, "verifyMac");
  set<OpenPipe>(env, exports, "openPipe");
  set<SendKey>(env, exports, "sendKey");
  set<ReceiveKey>(env, exports, "receiveKey");
  set<ReceiveSealed>(env, exports, "receiveSealed");
  set<SendOpened>(env, exports, "sendOpened");
  set<ImportSecret>(env, exports, "importSecret");
  set<ExposeSecret>(env, exports, "exposeSecret");
  set<OpenLegacy>(env, exports, "openLegacy");
  set<WrapDataKey>(env, exports, "wrapDataKey");
  set<UnwrapDataKey>(env, exports, "unwrapDataKey");
  set<WrapDataKeyUnder>(env, exports, "wrapDataKeyUnder");
  set<UnwrapDataKeyUnder>(env, exports, "unwrapDataKeyUnder");
  set<BeginMessage>(env, exports, "beginMessage");
  set<ResumeMessage>(env, exports, "resumeMessage");
  set<SealHeader>(env, exports, "sealHeader");
  set<VerifyHeader>(env, exports, "verifyHeader");
  set<SealFrames>(env, exports, "sealFrames");
  set<OpenFrames>(env, exports, "openFrames");
  set<SeekFrame>(env, exports, "seekFrame");
  set<Random>(env, exports, "random");
  set<SetSnapshotSafe>(env, exports, "setSnapshotSafe");
  set<GetPeerIdentity>(env, exports, "peerIdentity");
  set<LockFile>(env, exports, "lockFile");
  set<HardenProcess>(env, exports, "hardenProcess");
  set<CountCopies>(env, exports, "countCopies");
  set<ProveLeakPlant>(env, exports, "proveLeakPlant");
  set<ProveLeakClear>(env, exports, "proveLeakClear");
  set<LastErrno>(env, exports, "lastErrno");
  set<LaneErrno>(env, exports, "laneErrno");
  export_lane_calls(env, exports);
  export_file_calls(env, exports);
  set<WithGivenNonce<kGcmNonceLength, gcm_seal>>(env, exports, "vectorGcmSeal");
  set<WithGivenNonce<kGcmNonceLength, gcm_open>>(env, exports, "vectorGcmOpen");
  set<WithGivenNonce<kXaesNonceLength, xaes_seal>>(env, exports, "vectorXaesSeal");
  set<WithGivenNonce<kXaesNonceLength, xaes_open>>(env, exports, "vectorXaesOpen");
  set<VectorHkdf>(env, exports, "vectorHkdf");
  set<VectorHmac>(env, exports, "vectorHmac");

  exports.Set("library", text_of(OpenSSL_version(OPENSSL_VERSION)));
  exports.Set("cpu", text_of(OPENSSL_info(OPENSSL_INFO_CPU_SETTINGS)));
  return exports;
}

}  // namespace
}  // namespace dekd

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return dekd::init(env, exports); }

NODE_API_MODULE(dekd, Init)
