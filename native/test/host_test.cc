#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../core/data_key.h"
#include "../core/file_lock.h"
#include "../core/key_wrap.h"
#include "../core/peer_identity.h"
#include "../core/process_hardening.h"
#include "../core/random.h"
#include "../core/root_key.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

// ── randomness ──

const Test kForkedNonces("a forked child never draws the nonces that its parent draws", [] {
  Bytes warm(24);
  expect(draw_nonce(warm) == Status::kOk);
  int ends[2];
  expect(pipe(ends) == 0);
  const Ending ending = in_child([&] {
    Bytes nonce(24);
    return draw_nonce(nonce) == Status::kOk && write(ends[1], nonce.data(), 24) == 24 ? 0 : 1;
  });
  Bytes child(24);
  Bytes parent(24);
  expect(ending == 0 && read(ends[0], child.data(), 24) == 24);
  expect(draw_nonce(parent) == Status::kOk);
  expect(child != parent && !all_zero(child) && child != warm);
  close(ends[0]);
  close(ends[1]);
});

const Test kDraws("draw_nonce gives other bytes each time, across refills and at every size", [] {
  Bytes last(24);
  for (int i = 0; i < 1000; ++i) {
    Bytes next(24);
    expect(draw_nonce(next) == Status::kOk && next != last);
    last = next;
  }
  Bytes large(5000);
  expect(draw_nonce(large) == Status::kOk && !all_zero(std::span(large).last(1000)));
});

const Test kSnapshot("set_snapshot_safe draws from the kernel each time, so a repeated buffer is never used", [] {
  set_snapshot_safe(true);
  Bytes one(24);
  Bytes two(24);
  expect(draw_nonce(one) == Status::kOk && draw_nonce(two) == Status::kOk && one != two);
  set_snapshot_safe(false);
});

// ── root key ──

Result<KeyHandle> read_text(KeyTable& table, const std::string& text) {
  int ends[2];
  expect(pipe(ends) == 0);
  expect(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  close(ends[1]);
  const Result<KeyHandle> result = read_root_key(table, ends[0], kRootUse, 0);
  close(ends[0]);
  return result;
}

const Test kRootKey("read_root_key takes 32 bytes as one base64 line and nothing else", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const std::string line = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
  for (const std::string& text : {line, line + "\n"}) {
    const Result<KeyHandle> key = read_text(table, text);
    expect(key.ok());
    KeyTable::Lease lease;
    expect(table.lease(key.value(), lease));
    expect(Bytes(lease.key().begin(), lease.key().end()) == counting(32));
  }
  std::string alphabet = line;
  alphabet[0] = '+';
  alphabet[1] = '/';
  expect(read_text(table, alphabet).ok());
  const uint32_t used = table.stats().used;
  std::vector<std::string> bad = {"", "\n", line + "\n\n", line + "\r\n", " " + line, line + "A", line.substr(1),
                                  line.substr(0, 43), line.substr(0, 43) + "A"};
  for (const char character : {'!', '-', '_', '=', ' ', '\0', '\x80', '@', '[', '`', '{', ':', '.'}) {
    bad.push_back(line);
    bad.back()[20] = character;
  }
  // The last character before the padding carries two bits that must be zero.
  bad.push_back(line.substr(0, 42) + "9=");
  for (const std::string& text : bad) {
    expect(read_text(table, text).status() == Status::kMalformedKey);
  }
  expect(read_root_key(table, -1, kRootUse, 0).status() == Status::kSystemFailed);
  expect(read_root_key(table, -1, kRawAesUse, 0).status() == Status::kSystemFailed);
  for (const KeyUse use : {kDataKeyUse, kMessageKeyUse, KeyUse{Algorithm::kXaes256Gcm, Purpose::kSeal}}) {
    expect(read_root_key(table, -1, use, 0).status() == Status::kWrongUse);
  }
  expect(table.stats().used == used);
});

const Test kWriteRootKey("write_root_key writes what read_root_key reads, another key each time", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  Bytes last(32);
  for (int i = 0; i < 50; ++i) {
    int ends[2];
    expect(pipe(ends) == 0);
    expect(write_root_key(ends[1]) == Status::kOk);
    close(ends[1]);
    const Result<KeyHandle> key = read_root_key(table, ends[0], kRootUse, 0);
    close(ends[0]);
    expect(key.ok());
    KeyTable::Lease lease;
    expect(table.lease(key.value(), lease));
    const Bytes bytes(lease.key().begin(), lease.key().end());
    expect(bytes != last);
    last = bytes;
  }
  expect(write_root_key(-1) == Status::kSystemFailed);
});

const Test kWriteKeyLine("write_key_line writes a key of the table that reads back as the same, of one use only", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const Result<KeyHandle> key = generate_key(table, kRootUse, 0);
  int ends[2];
  expect(pipe(ends) == 0);
  expect(write_key_line(table, key.value(), ends[1]) == Status::kOk);
  close(ends[1]);
  const Result<KeyHandle> read = read_root_key(table, ends[0], kRootUse, 0);
  close(ends[0]);
  KeyTable::Lease one;
  KeyTable::Lease other;
  expect(table.lease(key.value(), one) && table.lease(read.value(), other));
  expect(std::equal(one.key().begin(), one.key().end(), other.key().begin()));
  expect(write_key_line(table, key.value(), -1) == Status::kSystemFailed);
  const Result<KeyHandle> other_use = generate_key(table, kRawAesUse, 0);
  expect(write_key_line(table, other_use.value(), 1) == Status::kWrongUse);
  expect(write_key_line(table, 0, 1) == Status::kStaleKey);
});

// ── peers ──

const Test kPeer("peer_identity tells uid, gid and groups of a Unix socket's other end", [] {
  int ends[2];
  expect(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  PeerIdentity peer;
  expect(peer_identity(ends[0], peer));
  expect(peer.uid == getuid() && peer.gid == getgid());
  std::array<gid_t, 512> groups;
  const int count = getgroups(static_cast<int>(groups.size()), groups.data());
  expect(peer.groups == std::vector<gid_t>(groups.begin(), groups.begin() + count));
  close(ends[0]);
  close(ends[1]);
});

const Test kManyGroups("peer_identity reads more groups than it first has room for", [] {
  if (getuid() != 0) {
    skip("only root can set groups");
    return;
  }
  const Ending ending = in_child([] {
    std::vector<gid_t> groups;
    for (gid_t group = 0; group < 100; ++group) {
      groups.push_back(5000 + group);
    }
    int ends[2];
    PeerIdentity peer;
    if (setgroups(groups.size(), groups.data()) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 ||
        !peer_identity(ends[0], peer)) {
      return 1;
    }
    return peer.groups == groups ? 0 : 2;
  });
  expect(ending == 0);
});

const Test kNoPeer("peer_identity refuses TCP sockets, unconnected sockets and files", [] {
  PeerIdentity peer;
  const int tcp = socket(AF_INET, SOCK_STREAM, 0);
  expect(!peer_identity(tcp, peer));
  close(tcp);
  const int alone = socket(AF_UNIX, SOCK_STREAM, 0);
  expect(!peer_identity(alone, peer));
  close(alone);
  const int file = open("/dev/null", O_RDONLY);
  expect(!peer_identity(file, peer));
  close(file);
  expect(!peer_identity(-1, peer));
});

// ── files and process ──

const Test kLock("lock_file gives the lock to one open file until it is closed", [] {
  char path[] = "/tmp/dekd-lock-XXXXXX";
  const int first = mkstemp(path);
  const int second = open(path, O_RDWR);
  expect(lock_file(first) == FileLock::kTaken);
  expect(lock_file(first) == FileLock::kTaken);
  expect(lock_file(second) == FileLock::kHeldElsewhere);
  close(first);
  expect(lock_file(second) == FileLock::kTaken);
  close(second);
  expect(lock_file(-1) == FileLock::kFailed);
  unlink(path);
});

const Test kHarden("harden_process takes every measure, as a plain user too", [] {
  const Ending ending = in_child([] {
    if (getuid() == 0 && (setgid(1000) != 0 || setuid(1000) != 0)) {
      return 1;
    }
    // A changed uid makes a process undumpable; a started program is dumpable again.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    const int filter = open("/proc/self/coredump_filter", O_RDONLY);
    if (harden_process() != (kNoCoreFile | kEmptyCoreFilter | kNotDumpable | kNoNewPrivileges)) {
      return 2;
    }
    rlimit core{1, 1};
    getrlimit(RLIMIT_CORE, &core);
    char text[16] = {};
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0              ? 3
           : prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1        ? 4
           : core.rlim_cur != 0 || core.rlim_max != 0           ? 5
           : read(filter, text, sizeof text) <= 0               ? 6
           : std::strtoul(text, nullptr, 16) != 0               ? 7
                                                                : 0;
  });
  expect(ending == 0);
});

}  // namespace
}  // namespace dekd::test
