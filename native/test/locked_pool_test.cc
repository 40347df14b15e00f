#include "../core/locked_pool.h"

#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "../core/hidden_memory.h"
#include "../core/key_table.h"
#include "harness.h"

namespace dekd::test {
namespace {

bool as_plain_user_with_lock_limit(rlim_t bytes) {
  const rlimit limit{bytes, bytes};
  return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && setgroups(0, nullptr) == 0 && setgid(1000) == 0 &&
         setuid(1000) == 0;
}

// Whether the running test can see mlock succeed and fail: sanitizers replace it by nothing.
bool mlock_is_real() {
  if constexpr (kSanitized) {
    skip("sanitizers ignore mlock");
  }
  return !kSanitized;
}

// Expects what a plain user with this RLIMIT_MEMLOCK gets.
void expect_table(rlim_t limit, LockLevel level, uint32_t slots,
                  std::source_location place = std::source_location::current()) {
  if (getuid() != 0) {
    skip("only root can become another user");
    return;
  }
  const Ending ending = in_child([&] {
    KeyTable table;
    if (!as_plain_user_with_lock_limit(limit)) {
      return 1;
    }
    if (table.open(LockLevel::kHeap) != Status::kOk) {
      return 2;
    }
    return table.level() != level ? 3 : table.stats().capacity != slots ? 4 : 0;
  });
  expect(ending == 0, place);
}

bool kernel_has_secret_memory() {
  LockedPool pool;
  return pool.reserve(4096, LockLevel::kSecret) == Status::kOk;
}

// The line of /proc/self/smaps named `field` in the entry of `address`.
std::string smaps_field(const void* address, const char* field) {
  FILE* const file = std::fopen("/proc/self/smaps", "re");
  char line[512];
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, "%zx-", reinterpret_cast<size_t>(address));
  bool inside = false;
  std::string found;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, wanted, std::strlen(wanted)) == 0) {
      inside = true;
    } else if (inside && std::strncmp(line, field, std::strlen(field)) == 0) {
      found = line;
      break;
    }
  }
  std::fclose(file);
  return found;
}

Ending touch(LockLevel level, bool before) {
  return in_child([=] {
    LockedPool pool;
    if (pool.reserve(4096, level) != Status::kOk) {
      return 1;
    }
    volatile uint8_t* const at = before ? pool.bytes().data() - 1 : pool.bytes().data() + pool.bytes().size();
    *at = 1;
    return 0;
  });
}

const Test kZeroed("LockedPool is zeroed and of the size asked for", [] {
  LockedPool pool;
  expect(pool.reserve(65536, LockLevel::kHeap) == Status::kOk);
  expect(pool.bytes().size() == 65536);
  expect(all_zero(pool.bytes()));
});

const Test kGuards("LockedPool ends in pages that kill whoever touches them", [] {
  for (const LockLevel level : {LockLevel::kSecret, LockLevel::kLocked, LockLevel::kHeap}) {
    if (level == LockLevel::kSecret && !kernel_has_secret_memory()) {
      continue;
    }
    expect(touch(level, true) == -SIGSEGV);
    expect(touch(level, false) == -SIGSEGV);
  }
});

const Test kSecret("LockedPool reaches level secret where the kernel has memfd_secret, with no descriptor left", [] {
  if (!kernel_has_secret_memory()) {
    skip("this kernel has no memfd_secret");
    return;
  }
  const int before = dup(0);
  close(before);
  LockedPool pool;
  expect(pool.reserve(65536, LockLevel::kHeap) == Status::kOk);
  expect(pool.level() == LockLevel::kSecret);
  expect(pool.reasons().secret_errno == 0);
  const int after = dup(0);
  close(after);
  expect(before == after);
});

const Test kHidden("is_hidden tells secret memory from memory that another process could read", [] {
  LockedPool ordinary;
  expect(ordinary.reserve(4096, LockLevel::kHeap) == Status::kOk);
  std::vector<uint8_t> heap(4096, 7);
  expect(!is_hidden(heap));
  if (!kernel_has_secret_memory()) {
    skip("this kernel has no memfd_secret");
    return;
  }
  expect(ordinary.level() == LockLevel::kSecret && is_hidden(ordinary.bytes()));
});

const Test kDirectMap("keeps_direct_map knows the arm64 kernels whose secret memory stays in the direct map", [] {
  expect(!keeps_direct_map("x86_64", "quiet rodata=off"));
  for (const char* const sound : {"", "quiet", "rodata=full", "rodata=off rodata=full quiet", "xrodata=off", "rodata=full\n"}) {
    expect(!keeps_direct_map("aarch64", sound));
  }
  for (const char* const unsound : {"rodata=off", "quiet rodata=on\n", "rodata=full rodata=off", "rodata=noalias x=1"}) {
    expect(keeps_direct_map("aarch64", unsound));
  }
});

const Test kFork("LockedPool is not there in a forked child", [] {
  LockedPool pool;
  expect(pool.reserve(4096, LockLevel::kHeap) == Status::kOk);
  volatile uint8_t* const bytes = pool.bytes().data();
  expect(in_child([=] { return static_cast<int>(*bytes); }) == -SIGSEGV);
});

const Test kLocked("LockedPool at level locked is locked and left out of core files", [] {
  if (!mlock_is_real()) {
    return;
  }
  // Secret memory is made impossible by a limit of no open files.
  const Ending ending = in_child([] {
    rlimit old{};
    getrlimit(RLIMIT_NOFILE, &old);
    const rlimit soft{0, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &soft);
    LockedPool pool;
    const Status status = pool.reserve(8192, LockLevel::kLocked);
    setrlimit(RLIMIT_NOFILE, &old);
    if (status != Status::kOk || pool.level() != LockLevel::kLocked || pool.reasons().secret_errno == 0) {
      return 1;
    }
    const std::string flags = smaps_field(pool.bytes().data(), "VmFlags:");
    return flags.find(" lo") == std::string::npos ? 2 : flags.find(" dd") == std::string::npos ? 3 : 0;
  });
  expect(ending == 0);
});

const Test k64("a plain user with RLIMIT_MEMLOCK 64 KiB has all 1,024 keys above level heap", [] {
  expect_table(65536, kernel_has_secret_memory() ? LockLevel::kSecret : LockLevel::kLocked, 1024);
});
const Test k8M("a plain user with RLIMIT_MEMLOCK 8 MiB has all 1,024 keys above level heap", [] {
  expect_table(8 << 20, kernel_has_secret_memory() ? LockLevel::kSecret : LockLevel::kLocked, 1024);
});
const Test k50("a smaller RLIMIT_MEMLOCK gives fewer keys before it gives a lower level", [] {
  const LockLevel best = kernel_has_secret_memory() ? LockLevel::kSecret : LockLevel::kLocked;
  expect_table(50 << 10, best, 768);
  expect_table(33 << 10, best, 512);
  expect_table(20 << 10, best, 256);
  expect_table(4096, best, 64);
});
const Test k0("a plain user with RLIMIT_MEMLOCK 0 gets level heap", [] {
  if (mlock_is_real()) {
    expect_table(0, LockLevel::kHeap, 1024);
  }
});

const Test kMinimum("KeyTable refuses to open below the level asked for and says why", [] {
  if (!mlock_is_real()) {
    return;
  }
  if (getuid() != 0) {
    skip("only root can become another user");
    return;
  }
  const Ending ending = in_child([] {
    KeyTable table;
    if (!as_plain_user_with_lock_limit(0)) {
      return 1;
    }
    if (table.open(LockLevel::kLocked) != Status::kBelowMinimum || table.ready()) {
      return 2;
    }
    return table.reasons().locked_errno == 0 || table.reasons().secret_errno == 0 ? 3 : 0;
  });
  expect(ending == 0);
});

const Test kReopen("KeyTable that is open keeps its level and refuses a higher demand", [] {
  if (!mlock_is_real()) {
    return;
  }
  if (getuid() != 0) {
    skip("only root can become another user");
    return;
  }
  const Ending ending = in_child([] {
    KeyTable table;
    if (!as_plain_user_with_lock_limit(0) || table.open(LockLevel::kHeap) != Status::kOk) {
      return 1;
    }
    return table.open(LockLevel::kHeap) == Status::kOk && table.open(LockLevel::kLocked) == Status::kBelowMinimum ? 0
                                                                                                                  : 2;
  });
  expect(ending == 0);
});

}  // namespace
}  // namespace dekd::test
