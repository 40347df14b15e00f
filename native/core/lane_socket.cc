#include "lane_socket.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "waiting_thread.h"

namespace dekd {
namespace {

constexpr uint8_t kMagic[4] = {'D', 'K', 'L', '1'};
constexpr size_t kKindAt = sizeof kMagic;
constexpr size_t kTokenAt = 8;
static_assert(kTokenAt + kLaneTokenLength == kLaneGreetingLength);

size_t descriptors_of(LaneKind kind) { return kind == LaneKind::kRegion ? 1 : kMaxLaneDescriptors; }

// Room for the descriptors of one greeting. The kernel closes what does not fit and says MSG_CTRUNC.
union Control {
  cmsghdr aligned;
  char bytes[CMSG_SPACE(sizeof(int) * kMaxLaneDescriptors)];
};

// Takes every descriptor of the message into ownership, so that none can be lost on the way out.
struct Taken final {
  std::array<OwnedFd, kMaxLaneDescriptors> descriptors;
  size_t count = 0;
};

Taken take_descriptors(msghdr& message) {
  Taken taken;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      // `Control` has room for no more.
      if (taken.count < taken.descriptors.size()) {
        taken.descriptors[taken.count++] = OwnedFd(fd);
      } else {
        close_elsewhere(fd);
      }
    }
  }
  return taken;
}

// Reads up to one byte more than a greeting has, without waiting.
ssize_t receive(int socket, uint8_t (&bytes)[kLaneGreetingLength + 1], msghdr* with, int flags) {
  iovec part{bytes, sizeof bytes};
  msghdr plain{};
  msghdr& message = with == nullptr ? plain : *with;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t length = 0;
  do {
    length = recvmsg(socket, &message, MSG_DONTWAIT | flags);
  } while (length < 0 && errno == EINTR);
  message.msg_iov = nullptr;
  message.msg_iovlen = 0;
  return length;
}

LaneFault unread() { return errno == EAGAIN || errno == EWOULDBLOCK ? LaneFault::kNotYet : LaneFault::kSystem; }

LaneFault read_words(const uint8_t (&bytes)[kLaneGreetingLength + 1], ssize_t length, LaneGreeting& greeting) {
  if (length == 0) {
    return LaneFault::kEnded;
  }
  constexpr uint8_t kZeros[kTokenAt - kKindAt - 1] = {};
  const auto kind = static_cast<LaneKind>(bytes[kKindAt]);
  if (length != kLaneGreetingLength || std::memcmp(bytes, kMagic, sizeof kMagic) != 0 ||
      (kind != LaneKind::kRegion && kind != LaneKind::kFiles) ||
      std::memcmp(bytes + kKindAt + 1, kZeros, sizeof kZeros) != 0) {
    return LaneFault::kMalformed;
  }
  greeting.kind = kind;
  std::memcpy(greeting.token.data(), bytes + kTokenAt, greeting.token.size());
  return LaneFault::kNone;
}

}  // namespace

LaneFault peek_greeting(int socket, LaneGreeting& greeting) {
  // One byte more than there may be, to see it.
  uint8_t bytes[kLaneGreetingLength + 1];
  const ssize_t length = receive(socket, bytes, nullptr, MSG_PEEK);
  return length < 0 ? unread() : read_words(bytes, length, greeting);
}

LaneFault receive_greeting(int socket, LaneGreeting& greeting) {
  uint8_t bytes[kLaneGreetingLength + 1];
  Control control{};
  msghdr message{};
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t length = receive(socket, bytes, &message, MSG_CMSG_CLOEXEC);
  if (length < 0) {
    return unread();
  }
  Taken taken = take_descriptors(message);
  LaneFault fault = read_words(bytes, length, greeting);
  if (fault == LaneFault::kNone &&
      ((message.msg_flags & MSG_CTRUNC) != 0 || taken.count != descriptors_of(greeting.kind))) {
    fault = LaneFault::kMalformed;
  }
  if (fault != LaneFault::kNone) {
    for (size_t i = 0; i < taken.count; ++i) {
      close_elsewhere(taken.descriptors[i].release());
    }
    return fault;
  }
  greeting.count = taken.count;
  for (size_t i = 0; i < taken.count; ++i) {
    greeting.descriptors[i] = std::move(taken.descriptors[i]);
  }
  return LaneFault::kNone;
}

LaneFault send_greeting(int socket, LaneKind kind, std::span<const uint8_t, kLaneTokenLength> token,
                        std::span<const int> descriptors) {
  if (descriptors.size() != descriptors_of(kind)) {
    return LaneFault::kMalformed;
  }
  uint8_t bytes[kLaneGreetingLength] = {};
  std::memcpy(bytes, kMagic, sizeof kMagic);
  bytes[kKindAt] = static_cast<uint8_t>(kind);
  std::memcpy(bytes + kTokenAt, token.data(), token.size());
  Control control{};
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  ssize_t length = 0;
  do {
    length = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (length < 0 && errno == EINTR);
  return length == sizeof bytes ? LaneFault::kNone : LaneFault::kSystem;
}

}  // namespace dekd
