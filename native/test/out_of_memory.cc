// What the core does when memory runs out: every scenario again and again, with the first, the second, the third ... of its
// allocations failing, until it has none left to fail. A failure must be a status; the scenario's slots must be free again,
// nothing opened may be left where plaintext would be, and no status may say ok for a wrong answer. Each try is a process of
// its own, so that an end by a signal is seen for what it is. Run by out-of-memory.mjs with failing_memory.c in front.

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "../core/data_key.h"
#include "../core/key_wrap.h"
#include "../core/legacy.h"
#include "../core/memory_scan.h"
#include "../core/message.h"
#include "../core/peer_identity.h"
#include "../core/root_key.h"
#include "../core/token.h"

extern "C" {
[[gnu::weak]] void fail_from(long n);
[[gnu::weak]] long allocations(int* failed);
}

namespace dekd::test {
namespace {

constexpr long kMost = 2000;
constexpr KeyUse kSealUse{Algorithm::kXaes256Gcm, Purpose::kSeal};

// How a try ended: as if nothing had happened, with a status that is not ok, or with a wrong answer.
enum Ending : int { kDone = 0, kRefused = 10, kWrong = 20 };

// Buffers are made before memory fails: what is tried is the core.
struct World final {
  KeyTable table;
  KeyHandle parent = 0;
  KeyHandle seal = 0;
  KeyHandle message_key = 0;
  KeyHandle data_key = 0;
  uint8_t wrapped[kWrappedKeyLength] = {};
  std::vector<uint8_t> context = std::vector<uint8_t>(3000, 5);
  std::vector<uint8_t> plaintext = std::vector<uint8_t>(5000, 7);
  std::vector<uint8_t> token = std::vector<uint8_t>(5000 + kTokenOverhead);
  std::vector<uint8_t> output = std::vector<uint8_t>(5000);
  std::vector<uint8_t> sealed = std::vector<uint8_t>(8 * (500 + kTokenOverhead));
  std::vector<uint32_t> rows = std::vector<uint32_t>(8 * kRowWords);
  std::vector<uint8_t> frames = std::vector<uint8_t>(2 * (1000 + kFrameOverhead));
  std::vector<uint8_t> opened = std::vector<uint8_t>(2 * (1000 + kFrameOverhead));
  int ends[2] = {-1, -1};

  std::span<const uint8_t> label() const {
    constexpr std::string_view kLabel = "dekd/v1/wrap";
    return {reinterpret_cast<const uint8_t*>(kLabel.data()), kLabel.size()};
  }
};

bool is_zero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

Ending open_table(World&) {
  KeyTable table;
  if (table.open(LockLevel::kHeap) != Status::kOk) {
    return table.ready() ? kWrong : kRefused;
  }
  const Result<KeyHandle> key = generate_key(table, kSealUse, 0);
  return key.ok() ? kDone : table.stats().used == 0 ? kRefused : kWrong;
}

Ending wrap(World& world) {
  uint8_t out[kWrappedKeyLength];
  if (wrap_key(world.table, world.parent, world.label(), world.seal, world.context, out) != Status::kOk) {
    return kRefused;
  }
  const Result<KeyHandle> key = unwrap_key(world.table, world.parent, world.label(), out, world.context, kSealUse, 0);
  if (!key.ok()) {
    return key.status() == Status::kAuthenticationFailed ? kWrong : kRefused;
  }
  world.table.destroy(key.value());
  return kDone;
}

Ending seal_and_open(World& world) {
  if (seal_token(world.table, world.seal, world.context, world.plaintext, world.token) != Status::kOk) {
    return kRefused;
  }
  std::fill(world.output.begin(), world.output.end(), 0);
  const Status status = open_token(world.table, world.seal, world.context, world.token, world.output);
  if (status != Status::kOk) {
    return status == Status::kAuthenticationFailed || !is_zero(world.output) ? kWrong : kRefused;
  }
  return world.output == world.plaintext ? kDone : kWrong;
}

Ending batch(World& world) {
  for (uint32_t row = 0; row < 8; ++row) {
    const auto at = static_cast<uint32_t>(row * (500 + kTokenOverhead));
    const uint32_t words[kRowWords] = {world.seal, 0, 1000, row * 500, 500, at, 0, 0};
    std::copy(std::begin(words), std::end(words), world.rows.begin() + row * kRowWords);
  }
  if (seal_many(world.table, world.rows, world.plaintext, world.sealed) != Status::kOk) {
    return kRefused;
  }
  bool all = true;
  for (uint32_t row = 0; row < 8; ++row) {
    const std::span<const uint8_t> token(world.sealed.data() + row * (500 + kTokenOverhead), 500 + kTokenOverhead);
    if (world.rows[row * kRowWords + 6] != 0) {
      all = false;
      if (!is_zero(token)) {
        return kWrong;
      }
    }
  }
  return all ? kDone : kRefused;
}

Ending message(World& world) {
  uint8_t id[kMessageIdLength];
  uint8_t commitment[kCommitmentLength];
  uint8_t tag[kTagLength];
  const Result<KeyHandle> writer = begin_message(world.table, world.data_key, 1000, 0, id, commitment);
  if (!writer.ok()) {
    return kRefused;
  }
  Status status = seal_header(world.table, writer.value(), world.context, world.plaintext, tag);
  if (status == Status::kOk) {
    status = seal_frames(world.table, writer.value(), std::span<const uint8_t>(world.plaintext).first(2000), false,
                         world.frames);
  }
  world.table.destroy(writer.value());
  if (status != Status::kOk) {
    return kRefused;
  }
  const Result<KeyHandle> reader =
      resume_message(world.table, world.data_key, MessageSuite::kCommitted, id, 1000, commitment, 0);
  if (!reader.ok()) {
    return reader.status() == Status::kAuthenticationFailed ? kWrong : kRefused;
  }
  std::fill(world.opened.begin(), world.opened.end(), 0);
  status = verify_header(world.table, reader.value(), world.context, world.plaintext, tag);
  OpenedFrames opened;
  if (status == Status::kOk) {
    status = open_frames(world.table, reader.value(), world.frames, world.opened, opened);
  }
  world.table.destroy(reader.value());
  if (status != Status::kOk) {
    return is_zero(world.opened) ? kRefused : kWrong;
  }
  return std::equal(world.plaintext.begin(), world.plaintext.begin() + 2000, world.opened.begin()) ? kDone : kWrong;
}

Ending data_key(World& world) {
  uint8_t info[kDataKeyInfoLength];
  uint8_t out[kEncryptedDataKeyLength];
  if (wrap_data_key(world.table, world.message_key, world.data_key, world.context, info, out) != Status::kOk) {
    return kRefused;
  }
  const Result<KeyHandle> key = unwrap_data_key(world.table, world.message_key, info, out, world.context, 0);
  if (!key.ok()) {
    return key.status() == Status::kAuthenticationFailed ? kWrong : kRefused;
  }
  world.table.destroy(key.value());
  return kDone;
}

Ending mac(World& world) {
  uint8_t one[kDigestLength];
  uint8_t two[kDigestLength];
  if (mac_with(world.table, world.parent, world.label(), world.plaintext, one) != Status::kOk ||
      mac_with(world.table, world.parent, world.label(), world.plaintext, two) != Status::kOk) {
    return kRefused;
  }
  return std::memcmp(one, two, sizeof one) == 0 ? kDone : kWrong;
}

Ending planted_leak(World& world) {
  const Status status = prove_leak_plant(world.table, world.seal);
  prove_leak_clear();
  return status == Status::kOk ? kDone : kRefused;
}

struct Scenario final {
  const char* name;
  Ending (*run)(World& world);
};

constexpr Scenario kScenarios[] = {
    {"a key table", open_table}, {"wrapping", wrap},     {"a token", seal_and_open}, {"a batch", batch},
    {"a message", message},      {"a data key", data_key}, {"a MAC", mac},            {"a planted leak", planted_leak},
};

bool prepare(World& world) {
  const auto make = [&](KeyUse use, KeyHandle& key) {
    const Result<KeyHandle> made = generate_key(world.table, use, 0);
    key = made.ok() ? made.value() : 0;
    return made.ok();
  };
  return world.table.open(LockLevel::kHeap) == Status::kOk && make(kRootUse, world.parent) &&
         make(kSealUse, world.seal) && make(kMessageKeyUse, world.message_key) && make(kDataKeyUse, world.data_key);
}

// One try in a process of its own. Minus the signal that ended it; else the ending, and how many allocations there were.
// The pool is not there in a child, so each makes its own world, and does the scenario once before memory fails.
int try_once(const Scenario& scenario, long n, long& counted) {
  int ends[2];
  if (pipe(ends) != 0) {
    return kWrong;
  }
  const pid_t child = fork();
  if (child == 0) {
    World world;
    if (!prepare(world) || scenario.run(world) != kDone) {
      _exit(30);
    }
    const uint32_t used = world.table.stats().used;
    int failed = 0;
    fail_from(n);
    Ending ending = scenario.run(world);
    long count = allocations(&failed);
    if (world.table.stats().used != used || (ending == kRefused && failed == 0)) {
      ending = kWrong;
    }
    // With memory back everything works again.
    if (scenario.run(world) != kDone) {
      ending = kWrong;
    }
    _exit(write(ends[1], &count, sizeof count) == sizeof count ? ending : 31);
  }
  close(ends[1]);
  int status = 0;
  counted = -1;
  if (read(ends[0], &counted, sizeof counted) != sizeof counted) {
    counted = -1;
  }
  close(ends[0]);
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int main_of() {
  if (fail_from == nullptr) {
    std::puts("failing_memory.so is not preloaded");
    return 2;
  }
  int bad = 0;
  long all = 0;
  for (const Scenario& scenario : kScenarios) {
    long refused = 0;
    long tries = 0;
    for (long n = 1; n <= kMost; ++n) {
      long counted = 0;
      const int ending = try_once(scenario, n, counted);
      ++tries;
      if (ending != kDone && ending != kRefused) {
        std::printf("FAILED %s: allocation %ld: %s %d\n", scenario.name, n, ending < 0 ? "signal" : "ending",
                    ending < 0 ? -ending : ending);
        ++bad;
      }
      refused += ending == kRefused ? 1 : 0;
      if (counted >= 0 && n > counted) {
        break;
      }
    }
    all += tries;
    std::printf("%s: %ld allocations failed, %ld of them told\n", scenario.name, tries - 1, refused);
  }
  std::printf("%ld tries, %d failed\n", all, bad);
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dekd::test

int main() { return dekd::test::main_of(); }
