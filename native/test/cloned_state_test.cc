// What happens to nonces when the process is there twice: after fork(2), and after its memory was saved and resumed.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "../core/key_wrap.h"
#include "../core/random.h"
#include "../core/token.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;
using Nonce = std::array<uint8_t, kXaesNonceLength>;

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};
constexpr size_t kDraws = kSanitized ? 40'000 : 1'000'000;
constexpr size_t kProcesses = 4;
constexpr size_t kShare = kDraws / kProcesses;

// Memory that all processes of a test write their nonces to.
class Shared final {
 public:
  explicit Shared(size_t bytes)
      : size_(bytes), at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {}
  ~Shared() { munmap(at_, size_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  bool ok() const { return at_ != MAP_FAILED; }
  uint8_t* bytes() const { return static_cast<uint8_t*>(at_); }

 private:
  size_t size_;
  void* at_;
};

// Runs `body` with 0 to kProcesses - 1, each in a child that was forked from this very state.
bool in_children(const std::function<bool(size_t)>& body) {
  std::array<pid_t, kProcesses> children{};
  for (size_t i = 0; i < kProcesses; ++i) {
    children[i] = fork();
    if (children[i] == 0) {
      _exit(body(i) ? 0 : 1);
    }
  }
  bool good = true;
  for (const pid_t child : children) {
    int status = 0;
    good = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 && good;
  }
  return good;
}

size_t repeats(uint8_t* bytes, size_t count) {
  auto* const nonces = reinterpret_cast<Nonce*>(bytes);
  std::sort(nonces, nonces + count);
  size_t found = 0;
  for (size_t i = 1; i < count; ++i) {
    found += nonces[i] == nonces[i - 1] ? 1 : 0;
  }
  return found;
}

// Draws a share of nonces to its place.
bool draw_share(uint8_t* out, size_t count) {
  for (size_t i = 0; i < count; ++i, out += kXaesNonceLength) {
    if (draw_nonce({out, kXaesNonceLength}) != Status::kOk) {
      return false;
    }
  }
  return true;
}

const Test kCloned("four children of one state draw a million nonces for its keys, and none twice", [] {
  // The state is that of a thread in the middle of its work: it has sealed, and its buffer is half used. Children draw as
  // seal_token does. They cannot seal: the locked memory of their parent is not there.
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const Result<KeyHandle> key = generate_key(table, kSeal, 0);
  Bytes token(kTokenOverhead);
  expect(key.ok() && seal_token(table, key.value(), {}, {}, token) == Status::kOk);
  const Shared shared(kDraws * kXaesNonceLength);
  expect(shared.ok());
  expect(in_children([&](size_t child) {
    return draw_share(shared.bytes() + child * kShare * kXaesNonceLength, kShare);
  }));
  expect(repeats(shared.bytes(), kDraws) == 0);
});

// The page that nonces of this thread are drawn from: the kernel says which one it wipes on fork.
uint8_t* nonce_page() {
  std::ifstream maps("/proc/self/smaps");
  uintptr_t start = 0;
  size_t size = 0;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      start = from;
      size = to - from;
    } else if (line.starts_with("VmFlags:") && line.find(" wf") != std::string::npos && size == kRandomBuffer) {
      return reinterpret_cast<uint8_t*>(start);
    }
  }
  return nullptr;
}

const Test kResumed("memory that is saved and resumed repeats no nonce when randomness is snapshot-safe, and does otherwise", [] {
  Nonce warm;
  expect(draw_nonce(warm) == Status::kOk);
  uint8_t* const page = nonce_page();
  if (page == nullptr) {
    skip("the page of nonces was not found in smaps");
    return;
  }
  const size_t half = 50;
  for (const bool safe : {false, true}) {
    set_snapshot_safe(safe);
    const Bytes saved(page, page + kRandomBuffer);
    Bytes nonces(2 * half * kXaesNonceLength);
    expect(draw_share(nonces.data(), half));
    std::memcpy(page, saved.data(), kRandomBuffer);
    expect(draw_share(nonces.data() + half * kXaesNonceLength, half));
    // Without it this is what a resumed machine would do, and why the setting is there.
    expect((repeats(nonces.data(), 2 * half) == 0) == safe);
  }
  set_snapshot_safe(false);
});

}  // namespace
}  // namespace dekd::test
