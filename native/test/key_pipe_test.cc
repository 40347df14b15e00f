#include "../core/key_pipe.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "../core/data_key.h"
#include "../core/key_wrap.h"
#include "../core/memory_scan.h"
#include "../core/secret.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};

Bytes frame(uint32_t id, uint32_t length, const Bytes& body) {
  Bytes bytes;
  for (const uint32_t word : {id, length}) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<uint8_t>(word >> shift));
    }
  }
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

Bytes frame(uint32_t id, const Bytes& body) { return frame(id, static_cast<uint32_t>(body.size()), body); }

struct Fixture final {
  KeyTable table;
  PipeEnds pipe;
  Bytes token = Bytes(kMaxPipedToken);

  explicit Fixture(PipeEnd own = PipeEnd::kRead, size_t bytes = kPoolBytes) {
    expect(table.open(LockLevel::kHeap, bytes) == Status::kOk);
    expect(open_pipe(own, pipe));
  }
  ~Fixture() {
    close_read();
    close_write();
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  void close_read() { close_end(pipe.read); }
  void close_write() { close_end(pipe.write); }
  static void close_end(int& fd) {
    if (fd >= 0) {
      close(fd);
    }
    fd = -1;
  }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  void put(const Bytes& bytes) {
    expect(write(pipe.write, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  Bytes take() {
    Bytes bytes(65536);
    const ssize_t count = read(pipe.read, bytes.data(), bytes.size());
    bytes.resize(count < 0 ? 0 : static_cast<size_t>(count));
    return bytes;
  }

  Status receive() { return receive_key(table, pipe.read, 7, kPipedUse, 0).status(); }
  Result<uint32_t> receive_token(KeyHandle key, const Bytes& context = {}) {
    return receive_sealed(table, pipe.read, 7, key, context, token);
  }
  Bytes kid(KeyHandle key) {
    KeyTable::Lease lease;
    expect(table.lease(key, lease));
    return {lease.kid().begin(), lease.kid().end()};
  }
};

const Test kOpen("open_pipe closes both ends at exec and makes only the own one not block", [] {
  for (const PipeEnd own : {PipeEnd::kRead, PipeEnd::kWrite}) {
    const Fixture f(own);
    for (const int fd : {f.pipe.read, f.pipe.write}) {
      expect((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
      expect(((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0) == ((fd == f.pipe.read) == (own == PipeEnd::kRead)));
    }
  }
});

const Test kNoDescriptors("open_pipe without a descriptor left says so and leaks none", [] {
  const Ending ending = in_child([] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &limit);
    PipeEnds ends;
    errno = 0;
    return !open_pipe(PipeEnd::kRead, ends) && errno == EMFILE && ends.read == -1 && ends.write == -1 ? 0 : 1;
  });
  expect(ending == 0);
});

// ── keys ──

const Test kSent("send_key writes id, length and the key, and nothing else", [] {
  Fixture f;
  Bytes bytes = counting(32, 50);
  const Result<KeyHandle> key = import_secret(f.table, bytes, kPipedUse, 0);
  expect(send_key(f.table, f.pipe.write, 0x01020304, key.value()) == Status::kOk);
  expect(f.take() == frame(0x01020304, counting(32, 50)));
});

const Test kReceived("receive_key makes a key for wrapping of exactly one frame", [] {
  Fixture f;
  f.put(frame(7, counting(32)));
  f.put(frame(8, counting(32, 9)));
  const Result<KeyHandle> key = receive_key(f.table, f.pipe.read, 7, kPipedUse, 3);
  expect(key.ok());
  KeyTable::Lease lease;
  expect(f.table.lease(key.value(), lease));
  expect(Bytes(lease.key().begin(), lease.key().end()) == counting(32));
  expect(lease.use() == kPipedUse);
  std::array<uint8_t, kKidLength> kid;
  expect(key_id(lease.key(), kPipedUse, kid) == Status::kOk);
  expect(std::memcmp(kid.data(), lease.kid().data(), kid.size()) == 0);
  expect(f.take() == frame(8, counting(32, 9)));
  // It belongs to the owner that was named.
  lease = {};
  f.table.destroy_owned(3);
  expect(!f.table.lease(key.value(), lease));
});

const Test kDataKeys("data keys travel as secrets do, and stay data keys", [] {
  Fixture f;
  Bytes bytes = counting(32, 50);
  const Result<KeyHandle> key = import_secret(f.table, bytes, kDataKeyUse, 0);
  expect(send_key(f.table, f.pipe.write, 7, key.value()) == Status::kOk);
  const Result<KeyHandle> again = receive_key(f.table, f.pipe.read, 7, kDataKeyUse, 0);
  KeyTable::Lease lease;
  expect(again.ok() && f.table.lease(again.value(), lease) && lease.use() == kDataKeyUse);
  expect(Bytes(lease.key().begin(), lease.key().end()) == counting(32, 50));
  Secret<kKeyLength> out;
  expect(expose_secret(f.table, key.value(), out.bytes()) == Status::kOk);
  expect(std::equal(out.bytes().begin(), out.bytes().end(), lease.key().begin()));
});

const Test kNoOtherUse("receive_key makes no key of a use that does not travel, and leaves the frame", [] {
  Fixture f;
  f.put(frame(7, counting(32)));
  for (const KeyUse use : {kSeal, kMessageKeyUse, kRawAesUse, KeyUse{Algorithm::kHmacSha256, Purpose::kWrap}}) {
    expect(receive_key(f.table, f.pipe.read, 7, use, 0).status() == Status::kWrongUse);
  }
  expect(f.table.stats().used == 0);
  expect(f.take() == frame(7, counting(32)));
});

const Test kWrongUse("only a key of a use that travels is sent or exposed, and no byte of another is", [] {
  Fixture f;
  Secret<kKeyLength> out;
  for (const KeyUse use :
       {kSeal, KeyUse{Algorithm::kHkdfSha256, Purpose::kMac}, KeyUse{Algorithm::kHmacSha256, Purpose::kWrap},
        kRawAesUse, kMessageKeyUse}) {
    const KeyHandle key = f.make(use);
    expect(send_key(f.table, f.pipe.write, 7, key) == Status::kWrongUse);
    expect(expose_secret(f.table, key, out.bytes()) == Status::kWrongUse);
  }
  const KeyHandle stale = f.make(kPipedUse);
  f.table.destroy(stale);
  expect(send_key(f.table, f.pipe.write, 7, stale) == Status::kStaleKey);
  expect(expose_secret(f.table, stale, out.bytes()) == Status::kStaleKey);
  expect(all_zero(out.bytes()));
  expect(f.take().empty());
});

const Test kBadFrames("receive_key refuses every frame but the one it waits for and keeps no slot", [] {
  struct Case final {
    Bytes bytes;
    Status status;
  };
  const Case cases[] = {
      {frame(8, counting(32)), Status::kUnexpectedFrame},
      {frame(0x07000000, counting(32)), Status::kUnexpectedFrame},
      {frame(7, counting(31)), Status::kUnexpectedFrame},
      {frame(7, counting(33)), Status::kUnexpectedFrame},
      {frame(7, {}), Status::kUnexpectedFrame},
      {frame(7, UINT32_MAX, counting(32)), Status::kUnexpectedFrame},
      {{}, Status::kPipeEnded},
      {{0, 0, 0}, Status::kPipeEnded},
      {frame(7, 32, {}), Status::kPipeEnded},
      {frame(7, 32, counting(31)), Status::kPipeEnded},
  };
  for (const Case& one : cases) {
    Fixture f;
    f.put(one.bytes);
    if (one.status == Status::kPipeEnded) {
      // The writer is alive and silent, then it is gone.
      Fixture silent;
      silent.put(one.bytes);
      errno = 0;
      expect(silent.receive() == Status::kPipeFailed && errno == EAGAIN);
      expect(silent.table.stats().used == 0);
      f.close_write();
    }
    expect(f.receive() == one.status);
    expect(f.table.stats().used == 0);
    // What was reserved for it is wiped.
    expect(all_zero(f.table.extent()));
  }
});

const Test kFull("receive_key with a full table takes the frame off the pipe, so that the next is in place", [] {
  Fixture f(PipeEnd::kRead, 4096);
  while (f.table.stats().used < f.table.stats().capacity) {
    f.make(kSeal);
  }
  f.put(frame(7, counting(32)));
  f.put(frame(8, counting(32, 9)));
  expect(f.receive() == Status::kTableFull);
  expect(f.take() == frame(8, counting(32, 9)));
  f.put(frame(7, 32, counting(10)));
  expect(f.receive() == Status::kPipeFailed);
});

const Test kGone("writing to a pipe without a reader, or to a full one, is a status", [] {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  Fixture f(PipeEnd::kWrite);
  const KeyHandle key = f.make(kPipedUse);
  Status status = Status::kOk;
  uint32_t sent = 0;
  for (; status == Status::kOk && sent < 10000; ++sent) {
    status = send_key(f.table, f.pipe.write, sent, key);
  }
  expect(status == Status::kPipeFailed && errno == EAGAIN && sent > 1);
  f.close_read();
  errno = 0;
  expect(send_key(f.table, f.pipe.write, 7, key) == Status::kPipeFailed && errno == EPIPE);
  f.close_write();
  expect(send_key(f.table, f.pipe.write, 7, key) == Status::kPipeFailed && errno == EBADF);
  std::signal(SIGPIPE, before);
});

// ── sealed bytes ──

const Test kSealed("receive_sealed gives a token that opens to the frame's bytes, at every size", [] {
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  const Bytes context = counting(40);
  for (const size_t size : {size_t{1}, size_t{32}, size_t{4096}, kMaxPipedLength}) {
    const Bytes data = counting(size, 3);
    f.put(frame(7, data));
    const Result<uint32_t> length = f.receive_token(key, context);
    expect(length.ok() && length.value() == size + kTokenOverhead);
    Bytes opened(size);
    const std::span<const uint8_t> token = std::span(f.token).first(length.value());
    expect(open_token(f.table, key, context, token, opened) == Status::kOk && opened == data);
    expect(send_opened(f.table, f.pipe.write, 9, key, token, context) == Status::kOk);
    expect(f.take() == frame(9, data));
  }
});

const Test kSealedBad("receive_sealed refuses empty, longer and foreign frames, and those that end early", [] {
  const Bytes heads[] = {frame(7, {}), frame(7, kMaxPipedLength + 1, counting(8)), frame(7, UINT32_MAX, {}),
                         frame(6, counting(8))};
  for (const Bytes& bytes : heads) {
    Fixture f;
    f.put(bytes);
    expect(f.receive_token(f.make(kSeal)).status() == Status::kUnexpectedFrame);
    expect(all_zero(f.token));
  }
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  f.put(frame(7, 9, counting(8)));
  expect(f.receive_token(key).status() == Status::kPipeFailed && errno == EAGAIN);
  f.put(frame(7, 9, counting(8)));
  f.close_write();
  expect(f.receive_token(key).status() == Status::kPipeEnded);
  expect(all_zero(f.token));
});

const Test kSealedKey("receive_sealed takes the frame off the pipe also when the key cannot seal it", [] {
  Fixture f;
  const KeyHandle wrap = f.make(kPipedUse);
  const KeyHandle stale = f.make(kSeal);
  f.table.destroy(stale);
  f.put(frame(7, counting(100)));
  expect(f.receive_token(wrap).status() == Status::kWrongUse);
  f.put(frame(7, counting(100)));
  expect(f.receive_token(stale).status() == Status::kStaleKey);
  expect(f.take().empty());
  expect(all_zero(f.token));
  Bytes small(kMaxPipedToken - 1);
  expect(receive_sealed(f.table, f.pipe.read, 7, wrap, {}, small).status() == Status::kInvalidArgument);
});

const Test kOpenedBad("send_opened writes nothing of a token that does not authenticate or fits no frame", [] {
  Fixture f;
  const KeyHandle key = f.make(kSeal);
  const KeyHandle other = f.make(kSeal);
  const Bytes context = counting(10);
  f.put(frame(7, counting(20)));
  const Result<uint32_t> length = f.receive_token(key, context);
  Bytes token(f.token.begin(), f.token.begin() + length.value());
  const auto send = [&](KeyHandle with, const Bytes& bytes, const Bytes& aad) {
    return send_opened(f.table, f.pipe.write, 7, with, bytes, aad);
  };
  expect(send(other, token, context) == Status::kAuthenticationFailed);
  expect(send(key, token, {}) == Status::kAuthenticationFailed);
  for (size_t i = 0; i < token.size(); ++i) {
    token[i] ^= 1;
    expect(send(key, token, context) == Status::kAuthenticationFailed);
    token[i] ^= 1;
  }
  expect(send(f.make(kPipedUse), token, context) == Status::kWrongUse);
  expect(send(0, token, context) == Status::kStaleKey);
  for (const size_t size : {size_t{0}, kMaxPipedLength + 1}) {
    Bytes odd(size + kTokenOverhead);
    expect(seal_token(f.table, key, context, counting(size), odd) == Status::kOk);
    expect(send(key, odd, context) == Status::kAuthenticationFailed);
  }
  expect(send(key, {}, context) == Status::kAuthenticationFailed);
  expect(f.take().empty());
});

const Test kPart("send_opened reports a frame that the pipe took in part", [] {
  Fixture f(PipeEnd::kWrite);
  const KeyHandle key = f.make(kSeal);
  Bytes token(kMaxPipedToken);
  expect(seal_token(f.table, key, {}, counting(kMaxPipedLength), token) == Status::kOk);
  f.put(Bytes(60000));
  expect(send_opened(f.table, f.pipe.write, 7, key, token, {}) == Status::kPipeFailed && errno == EAGAIN);
});

const Test kSlow("send_opened finishes a frame that a slow reader takes in parts", [] {
  // The reader's end is the own one here, so that the writer blocks.
  Fixture f(PipeEnd::kRead);
  const KeyHandle key = f.make(kSeal);
  Bytes token(kMaxPipedToken);
  expect(seal_token(f.table, key, {}, counting(kMaxPipedLength), token) == Status::kOk);
  f.put(Bytes(60000));
  int done[2];
  expect(pipe(done) == 0);
  const pid_t reader = fork();
  if (reader == 0) {
    close(f.pipe.write);
    const Bytes whole = frame(7, counting(kMaxPipedLength));
    Bytes got;
    while (got.size() < 60000 + whole.size()) {
      uint8_t part[1000];
      const ssize_t count = read(f.pipe.read, part, sizeof part);
      if (count == 0) {
        break;
      }
      if (count < 0) {
        usleep(1000);
        continue;
      }
      got.insert(got.end(), part, part + count);
    }
    const uint8_t same =
        got.size() == 60000 + whole.size() && std::equal(whole.begin(), whole.end(), got.begin() + 60000);
    (void)!write(done[1], &same, 1);
    _exit(0);
  }
  expect(send_opened(f.table, f.pipe.write, 7, key, token, {}) == Status::kOk);
  f.close_write();
  uint8_t same = 0;
  expect(read(done[0], &same, 1) == 1 && same == 1);
  expect(waitpid(reader, nullptr, 0) == reader);
  close(done[0]);
  close(done[1]);
});

// ── bytes in this process ──

const Test kImport("import_secret wipes what it is given whatever comes of it", [] {
  Fixture f(PipeEnd::kRead, 4096);
  Bytes bytes = counting(32, 1);
  const Result<KeyHandle> key = import_secret(f.table, bytes, kPipedUse, 0);
  expect(key.ok() && all_zero(bytes));
  Secret<kKeyLength> out;
  expect(expose_secret(f.table, key.value(), out.bytes()) == Status::kOk);
  expect(std::memcmp(out.bytes().data(), counting(32, 1).data(), 32) == 0);
  for (const size_t size : {size_t{0}, size_t{31}, size_t{33}}) {
    bytes = counting(size, 1);
    expect(import_secret(f.table, bytes, kPipedUse, 0).status() == Status::kInvalidArgument && all_zero(bytes));
  }
  while (f.table.stats().used < f.table.stats().capacity) {
    f.make(kSeal);
  }
  bytes = counting(32, 1);
  expect(import_secret(f.table, bytes, kPipedUse, 0).status() == Status::kTableFull && all_zero(bytes));
  KeyTable closed;
  bytes = counting(32, 1);
  expect(import_secret(closed, bytes, kPipedUse, 0).status() == Status::kNotReady && all_zero(bytes));
});

const Test kCopies("no way through the pipe leaves a copy of the key outside of the table", [] {
  if constexpr (kSanitized) {
    skip("a sanitizer's shadow memory is too large to scan");
    return;
  }
  Fixture f;
  const KeyHandle key = f.make(kPipedUse);
  const KeyHandle seal = f.make(kSeal);
  const auto copies = [&] {
    const Result<ScanResult> result = count_copies(f.table, key);
    expect(result.ok() && result.value().bytes > 100000);
    return result.value().copies;
  };
  expect(send_key(f.table, f.pipe.write, 7, key) == Status::kOk);
  expect(copies() == 0);
  // A key is bytes like others: sealed and opened it must leave no trace of its plaintext either.
  const Result<uint32_t> length = f.receive_token(seal);
  expect(length.ok());
  expect(copies() == 0);
  const std::span<const uint8_t> token = std::span(f.token).first(length.value());
  expect(send_opened(f.table, f.pipe.write, 7, seal, token, {}) == Status::kOk);
  expect(copies() == 0);
  const Result<KeyHandle> back = receive_key(f.table, f.pipe.read, 7, kPipedUse, 0);
  expect(back.ok() && f.kid(back.value()) == f.kid(key));
  expect(copies() == 0);
  // The ways that fail.
  expect(send_key(f.table, f.pipe.write, 8, key) == Status::kOk);
  expect(f.receive() == Status::kUnexpectedFrame);
  Secret<kKeyLength> rest;
  expect(read(f.pipe.read, rest.bytes().data(), rest.bytes().size()) == static_cast<ssize_t>(rest.bytes().size()));
  wipe(rest.bytes());
  expect(send_key(f.table, f.pipe.write, 7, key) == Status::kOk);
  expect(f.receive_token(key).status() == Status::kWrongUse);
  expect(copies() == 0);
  while (f.table.stats().used < f.table.stats().capacity) {
    f.make(kSeal);
  }
  expect(send_key(f.table, f.pipe.write, 7, key) == Status::kOk);
  expect(f.receive() == Status::kTableFull);
  expect(copies() == 0);
});

}  // namespace
}  // namespace dekd::test
