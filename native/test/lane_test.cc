#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "../core/key_wrap.h"
#include "../core/lane_region.h"
#include "../core/lane_socket.h"
#include "../core/private_memory.h"
#include "../core/token.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr size_t kSize = 1 << 16;
constexpr size_t kLimit = 1 << 24;

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitized = true;
#else
constexpr bool kThreadSanitized = false;
#endif

// A memfd as a client would make it, or nearly.
OwnedFd memfd(int seals = kSeals, size_t size = kSize, bool populated = true, unsigned flags = MFD_ALLOW_SEALING) {
  OwnedFd fd(memfd_create("test", MFD_CLOEXEC | flags));
  const auto length = static_cast<off_t>(size);
  const bool made = populated && size > 0 ? fallocate(fd.get(), 0, 0, length) == 0 : ftruncate(fd.get(), length) == 0;
  expect(made && (seals == 0 || fcntl(fd.get(), F_ADD_SEALS, seals) == 0));
  return fd;
}

LaneFault adopt(int fd, size_t limit = kLimit) {
  std::shared_ptr<LaneRegion> region;
  const LaneFault fault = LaneRegion::adopt(fd, limit, region);
  expect((fault == LaneFault::kNone) == (region != nullptr));
  return fault;
}

// Descriptors that are open in this process.
size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

struct Pair final {
  OwnedFd ours;
  OwnedFd theirs;

  Pair() {
    int ends[2];
    expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    ours = OwnedFd(ends[0]);
    theirs = OwnedFd(ends[1]);
  }

  // Sends anything at all.
  void send(const Bytes& bytes, const std::vector<int>& fds) const {
    Bytes control(CMSG_SPACE(sizeof(int) * fds.size()));
    iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    expect(sendmsg(theirs.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
};

Bytes greeting_bytes(uint8_t kind) {
  Bytes bytes(kLaneGreetingLength, 7);
  const uint8_t head[] = {'D', 'K', 'L', '1', kind, 0, 0, 0};
  std::memcpy(bytes.data(), head, sizeof head);
  return bytes;
}

// ── regions ──

const Test kShared("a region that one side made is the same memory for the other", [] {
  std::shared_ptr<LaneRegion> made;
  expect(LaneRegion::create(kSize, made) == LaneFault::kNone);
  std::shared_ptr<LaneRegion> adopted;
  expect(LaneRegion::adopt(made->descriptor(), kSize, adopted) == LaneFault::kNone);
  made->bytes()[100] = 42;
  adopted->bytes()[kSize - 1] = 43;
  expect(adopted->bytes().size() == kSize && adopted->bytes()[100] == 42 && made->bytes()[kSize - 1] == 43);
  expect(adopted->descriptor() == -1);
});

const Test kEachSeal("a memfd that lacks any one of the seals is refused", [] {
  expect(adopt(memfd().get()) == LaneFault::kNone);
  for (const int seal : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) {
    expect(adopt(memfd(kSeals & ~seal).get()) == LaneFault::kNotSealed);
  }
  expect(adopt(memfd(0).get()) == LaneFault::kNotSealed);
});

const Test kOthers("what is no memfd of ordinary pages is refused", [] {
  int ends[2];
  expect(pipe(ends) == 0);
  const OwnedFd read_end(ends[0]);
  const OwnedFd write_end(ends[1]);
  const OwnedFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const OwnedFd path(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  const OwnedFd folder(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Pair pair;
  for (const int fd : {ends[0], file.get(), path.get(), folder.get(), pair.ours.get(), -1}) {
    expect(adopt(fd) == LaneFault::kNotMemfd);
  }
  // Never made to be sealed: it has the one seal that forbids others.
  expect(adopt(memfd(0, kSize, true, 0).get()) == LaneFault::kNotSealed);
});

const Test kHuge("a memfd with pages of hugetlb is refused", [] {
  const OwnedFd fd(memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (fd.get() < 0) {
    skip("this kernel has no hugetlb");
    return;
  }
  expect(ftruncate(fd.get(), 2 << 20) == 0 && fcntl(fd.get(), F_ADD_SEALS, kSeals) == 0);
  expect(adopt(fd.get()) == LaneFault::kHugePages);
});

const Test kSizes("a memfd over the limit, empty, or with pages that are not there is refused", [] {
  expect(adopt(memfd().get(), kSize) == LaneFault::kNone);
  expect(adopt(memfd().get(), kSize - 1) == LaneFault::kSize);
  expect(adopt(memfd().get(), 0) == LaneFault::kSize);
  expect(adopt(memfd(kSeals, 0).get()) == LaneFault::kSize);
  expect(adopt(memfd(kSeals, kSize, false).get()) == LaneFault::kNotPopulated);
  // Terabytes that cost its maker nothing.
  expect(adopt(memfd(kSeals, size_t{1} << 42, false).get(), SIZE_MAX) == LaneFault::kNotPopulated);
});

const Test kReadOnly("a memfd that is not open to write, or is sealed against it, is refused", [] {
  const OwnedFd fd = memfd();
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd.get());
  const OwnedFd reader(open(path, O_RDONLY | O_CLOEXEC));
  expect(reader.get() >= 0 && adopt(reader.get()) == LaneFault::kNotWritable);
  expect(adopt(memfd(kSeals | F_SEAL_WRITE).get()) == LaneFault::kNotWritable);
});

const Test kMapped("what is mapped is counted until the last owner lets it go, who may do so after its number is gone", [] {
  const size_t before = LaneRegion::adopted();
  std::shared_ptr<LaneRegion> region;
  expect(LaneRegion::adopt(memfd().get(), kLimit, region) == LaneFault::kNone);
  const uint32_t number = LaneTable::shared().add(region);
  region.reset();
  std::atomic<bool> found{false};
  std::atomic<bool> dropped{false};
  // A job that is at work in the region while its connection is closed.
  std::thread job([&] {
    const std::shared_ptr<LaneRegion> held = LaneTable::shared().find(number);
    found = true;
    found.notify_one();
    dropped.wait(false);
    std::memset(held->bytes().data(), 1, held->bytes().size());
    expect(LaneRegion::adopted() == before + kSize);
  });
  found.wait(false);
  LaneTable::shared().drop(number);
  expect(LaneTable::shared().find(number) == nullptr);
  dropped = true;
  dropped.notify_one();
  job.join();
  expect(LaneRegion::adopted() == before);
});

// ── greetings ──

const Test kGreets("a greeting comes with the descriptors that were sent, and its token", [] {
  const Pair pair;
  const OwnedFd fd = memfd();
  std::array<uint8_t, kLaneTokenLength> token;
  token.fill(9);
  const int one[] = {fd.get()};
  LaneGreeting greeting;
  expect(receive_greeting(pair.ours.get(), greeting) == LaneFault::kNotYet);
  expect(send_greeting(pair.theirs.get(), LaneKind::kRegion, token, one) == LaneFault::kNone);
  expect(receive_greeting(pair.ours.get(), greeting) == LaneFault::kNone);
  expect(greeting.kind == LaneKind::kRegion && greeting.token == token && greeting.count == 1);
  expect(greeting.descriptors[0].get() >= 0 && greeting.descriptors[1].get() == -1);
  expect(fcntl(greeting.descriptors[0].get(), F_GETFD) == FD_CLOEXEC);
  expect(adopt(greeting.descriptors[0].get()) == LaneFault::kNone);
  const int two[] = {fd.get(), fd.get()};
  LaneGreeting files;
  expect(send_greeting(pair.theirs.get(), LaneKind::kFiles, token, two) == LaneFault::kNone);
  expect(receive_greeting(pair.ours.get(), files) == LaneFault::kNone && files.count == 2);
  expect(send_greeting(pair.theirs.get(), LaneKind::kFiles, token, one) == LaneFault::kMalformed);
});

const Test kPeeks("a greeting is seen before it is read, and its descriptors are nobody's until then", [] {
  const Pair pair;
  const OwnedFd fd = memfd();
  std::array<uint8_t, kLaneTokenLength> token;
  token.fill(9);
  const int two[] = {fd.get(), fd.get()};
  LaneGreeting seen;
  expect(peek_greeting(pair.ours.get(), seen) == LaneFault::kNotYet);
  expect(send_greeting(pair.theirs.get(), LaneKind::kFiles, token, two) == LaneFault::kNone);
  const size_t before = open_descriptors();
  for (int i = 0; i < 2; ++i) {
    expect(peek_greeting(pair.ours.get(), seen) == LaneFault::kNone);
    expect(seen.kind == LaneKind::kFiles && seen.token == token && seen.count == 0);
  }
  expect(open_descriptors() == before);
  expect(receive_greeting(pair.ours.get(), seen) == LaneFault::kNone && seen.count == 2);
  expect(peek_greeting(pair.ours.get(), seen) == LaneFault::kNotYet);
});

const Test kHostile("hostile greetings are refused, and none of their descriptors stays open", [] {
  const OwnedFd fd = memfd();
  const std::vector<int> one{fd.get()};
  const Bytes good = greeting_bytes(1);
  const auto changed = [&](size_t at, uint8_t value) {
    Bytes bytes = good;
    bytes[at] = value;
    return bytes;
  };
  const auto resized = [&](size_t length) {
    Bytes bytes(length);
    std::memcpy(bytes.data(), good.data(), std::min(length, good.size()));
    return bytes;
  };
  struct Case final {
    Bytes bytes;
    std::vector<int> fds;
  };
  const std::vector<Case> cases{
      {good, {}},
      {good, {fd.get(), fd.get()}},
      {good, std::vector<int>(3, fd.get())},
      {good, std::vector<int>(200, fd.get())},
      {greeting_bytes(2), one},
      {greeting_bytes(2), std::vector<int>(3, fd.get())},
      {greeting_bytes(0), one},
      {greeting_bytes(3), one},
      {greeting_bytes(255), one},
      {changed(0, 'd'), one},
      {changed(3, '2'), one},
      {changed(5, 1), one},
      {changed(7, 1), one},
      {resized(1), one},
      {resized(39), one},
      {resized(41), one},
      {resized(4096), one},
  };
  for (const Case& each : cases) {
    const Pair pair;
    const size_t before = open_descriptors();
    pair.send(each.bytes, each.fds);
    {
      LaneGreeting greeting;
      expect(receive_greeting(pair.ours.get(), greeting) == LaneFault::kMalformed);
    }
    expect(open_descriptors() == before);
  }
});

const Test kRandomGreetings("random bytes with random descriptors leave no descriptor open", [] {
  const OwnedFd fd = memfd();
  unsigned seed = 1;
  const size_t before = open_descriptors();
  for (int i = 0; i < 500; ++i) {
    const Pair pair;
    Bytes bytes(1 + static_cast<size_t>(rand_r(&seed) % 80));
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(rand_r(&seed));
    }
    const Bytes head = greeting_bytes(static_cast<uint8_t>(rand_r(&seed) % 4));
    // Half of them look right at first.
    std::memcpy(bytes.data(), head.data(), std::min<size_t>(bytes.size(), rand_r(&seed) % 2 == 0 ? 8 : 0));
    pair.send(bytes, std::vector<int>(static_cast<size_t>(rand_r(&seed) % 5), fd.get()));
    LaneGreeting greeting;
    static_cast<void>(receive_greeting(pair.ours.get(), greeting));
  }
  expect(open_descriptors() == before);
});

const Test kEnd("a connection that ends without a word is told from one that has not spoken yet", [] {
  Pair pair;
  LaneGreeting greeting;
  pair.theirs = OwnedFd();
  expect(receive_greeting(pair.ours.get(), greeting) == LaneFault::kEnded);
});

// ── tokens ──

struct Fixture final {
  KeyTable table;
  KeyHandle key = 0;
  Bytes context = counting(9, 100);
  Bytes other_context = counting(9, 101);
  std::shared_ptr<LaneRegion> region;

  explicit Fixture(size_t size = size_t{4} << 20) {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    const Result<KeyHandle> made = generate_key(table, {Algorithm::kXaes256Gcm, Purpose::kSeal}, 0);
    expect(made.ok());
    key = made.value();
    expect(LaneRegion::create(size, region) == LaneFault::kNone);
  }

  std::span<uint8_t> part(size_t offset, size_t length) const { return region->bytes().subspan(offset, length); }
};

const Test kTokens("tokens made in shared memory are those made elsewhere, at sizes around every border", [] {
  const Fixture f;
  KeyTable& table = const_cast<KeyTable&>(f.table);
  for (const size_t size : {0, 1, 16, 255, 32767, 32768, 32769, 65536, 100000, 1 << 20}) {
    const Bytes plaintext = counting(size);
    const std::span<uint8_t> input = f.part(0, size);
    const std::span<uint8_t> token = f.part(2 << 20, size + kTokenOverhead);
    std::copy(plaintext.begin(), plaintext.end(), input.begin());
    expect(seal_shared_token(table, f.key, f.context, input, token) == Status::kOk);
    Bytes opened(size);
    const Bytes copy(token.begin(), token.end());
    expect(open_token(table, f.key, f.context, copy, opened) == Status::kOk && opened == plaintext);
    std::fill(input.begin(), input.end(), uint8_t{0x55});
    expect(open_shared_token(table, f.key, f.context, token, input) == Status::kOk);
    expect(Bytes(input.begin(), input.end()) == plaintext);
  }
});

const Test kRefusals("open_shared_token writes nothing for a token that does not authenticate, and wipes what it opened", [] {
  const Fixture f;
  KeyTable& table = const_cast<KeyTable&>(f.table);
  constexpr size_t kLength = 70000;
  const std::span<uint8_t> input = f.part(0, kLength);
  const std::span<uint8_t> token = f.part(1 << 20, kLength + kTokenOverhead);
  const std::span<uint8_t> out = f.part(2 << 20, kLength);
  std::fill(input.begin(), input.end(), uint8_t{0xee});
  expect(seal_shared_token(table, f.key, f.context, input, token) == Status::kOk);
  std::fill(out.begin(), out.end(), uint8_t{0x55});
  const auto untouched = [&] { return std::all_of(out.begin(), out.end(), [](uint8_t b) { return b == 0x55; }); };
  expect(open_shared_token(table, f.key, f.other_context, token, out) == Status::kAuthenticationFailed && untouched());
  expect(all_zero(private_memory(kLength)));
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2}, size_t{20}, size_t{42}, kLength, kLength + kTokenOverhead - 1}) {
    token[at] ^= 1;
    expect(open_shared_token(table, f.key, f.context, token, out) == Status::kAuthenticationFailed && untouched());
    token[at] ^= 1;
  }
  expect(open_shared_token(table, f.key, f.context, token.first(kTokenOverhead - 1), out.first(0)) ==
         Status::kAuthenticationFailed);
  expect(open_shared_token(table, f.key, f.context, token, out.first(kLength - 1)) == Status::kInvalidArgument);
  expect(open_shared_token(table, f.key, f.context, token, f.part((1 << 20) + 100, kLength)) == Status::kInvalidArgument);
  expect(seal_shared_token(table, f.key, f.context, input, f.part(100, kLength + kTokenOverhead)) ==
         Status::kInvalidArgument);
  expect(open_shared_token(table, f.key, f.context, token, out) == Status::kOk);
  expect(all_zero(private_memory(kLength)));
  release_private_memory();
});

// Bytes of `value` that another thread saw in `out` at any moment of `work`.
template <typename Work>
size_t seen_during(std::span<uint8_t> out, uint8_t value, Work work) {
  std::atomic<bool> running{false};
  std::atomic<bool> done{false};
  size_t seen = 0;
  std::thread watcher([&] {
    running = true;
    running.notify_one();
    do {
      // Through volatile: the compiler must read anew each time.
      for (const volatile uint8_t* at = out.data(); at < out.data() + out.size(); at += 97) {
        seen += *at == value ? 1 : 0;
      }
    } while (!done);
  });
  running.wait(false);
  work();
  done = true;
  watcher.join();
  return seen;
}

const Test kNothingSeen("a thread that polls the region while a wrong context is tried sees no byte of plaintext", [] {
  if (kThreadSanitized) {
    skip("the watcher races on purpose");
    return;
  }
  const Fixture f(size_t{24} << 20);
  KeyTable& table = const_cast<KeyTable&>(f.table);
  constexpr size_t kLength = size_t{4} << 20;
  constexpr uint8_t kValue = 0xa7;
  const std::span<uint8_t> input = f.part(0, kLength);
  const std::span<uint8_t> token = f.part(size_t{8} << 20, kLength + kTokenOverhead);
  const std::span<uint8_t> out = f.part(size_t{16} << 20, kLength);
  std::fill(input.begin(), input.end(), kValue);
  expect(seal_shared_token(table, f.key, f.context, input, token) == Status::kOk);
  const size_t seen = seen_during(out, kValue, [&] {
    for (int i = 0; i < 20; ++i) {
      expect(open_shared_token(table, f.key, f.other_context, token, out) == Status::kAuthenticationFailed);
    }
  });
  expect(seen == 0);
  // The watcher finds what there is to find: opening straight to the region shows plaintext before it is verified.
  const Bytes copy(token.begin(), token.end());
  const size_t planted = seen_during(out, kValue, [&] {
    for (int i = 0; i < 20; ++i) {
      expect(open_token(table, f.key, f.other_context, copy, out) == Status::kAuthenticationFailed);
    }
  });
  expect(planted > 0);
});

const Test kChanged("a client that changes its memory meanwhile gets a token that opens to what was read, or an error", [] {
  if (kThreadSanitized) {
    skip("the client races on purpose");
    return;
  }
  const Fixture f;
  KeyTable& table = const_cast<KeyTable&>(f.table);
  constexpr size_t kLength = 300000;
  const std::span<uint8_t> input = f.part(0, kLength);
  const std::span<uint8_t> token = f.part(1 << 20, kLength + kTokenOverhead);
  const std::span<uint8_t> out = f.part(2 << 20, kLength);
  std::atomic<bool> done{false};
  std::thread client([&] {
    for (uint8_t value = 0; !done; ++value) {
      for (size_t at = 0; at < kLength; at += 61) {
        *const_cast<volatile uint8_t*>(&input[at]) = value;
      }
    }
  });
  for (int i = 0; i < 50; ++i) {
    // Only the plaintext is changed: what was encrypted is what was authenticated, so it opens each time.
    expect(seal_shared_token(table, f.key, f.context, input, token) == Status::kOk);
    expect(open_shared_token(table, f.key, f.context, token, out) == Status::kOk);
  }
  done = true;
  client.join();
});

}  // namespace
}  // namespace dekd::test
