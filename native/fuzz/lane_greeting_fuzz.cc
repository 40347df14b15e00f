// What a peer says on the lane socket, with the descriptors that come along, and the memory it shares.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "../core/lane_region.h"
#include "../core/lane_socket.h"
#include "fuzz.h"

using namespace dekd;
using namespace dekd::fuzz;

namespace {

// The number that the next descriptor has: it grows when one was left open.
int next_descriptor() {
  const int fd = dup(STDERR_FILENO);
  must(fd >= 0, "there is a descriptor left");
  close(fd);
  return fd;
}

void say(int socket, const Bytes& text, std::span<const int> descriptors) {
  iovec part{const_cast<uint8_t*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(4 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
  }
  (void)!sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int before = next_descriptor();
  Input in(data, size);
  const uint8_t choice = in.byte();
  // A greeting of the right form, with memory that is mostly right, so that what is shared is looked at too.
  const bool good = (choice & 16) != 0;
  const size_t count = good ? 1 : in.byte() % 5;
  std::array<int, 4> descriptors{};
  for (size_t i = 0; i < count; ++i) {
    const uint8_t given = in.byte();
    const auto kind = good ? static_cast<uint8_t>(given - given % 3 + (given == 255 ? -2 : 1)) : given;
    descriptors[i] = kind % 3 == 0   ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                     : kind % 3 == 1 ? memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING)
                                     : dup(STDERR_FILENO);
    if (kind % 3 == 1) {
      must(ftruncate(descriptors[i], static_cast<off_t>(kind) * 512) == 0, "a file grows");
      const Bytes pages(static_cast<size_t>(kind) * 512);
      (void)!pwrite(descriptors[i], pages.data(), (kind & 4) != 0 ? pages.size() : pages.size() / 2, 0);
      if ((kind & 64) != 0) {
        (void)fcntl(descriptors[i], F_ADD_SEALS,
                    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | ((kind & 32) != 0 ? F_SEAL_WRITE : 0));
      }
    }
  }
  int ends[2];
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a pair opens");
  Bytes text;
  if (good) {
    text = {'D', 'K', 'L', '1', 1, 0, 0, 0};
    text.resize(kLaneGreetingLength, choice);
  } else if ((choice & 1) != 0) {
    text = {'D', 'K', 'L', '1', static_cast<uint8_t>(1 + ((choice >> 1) & 1)), 0, 0, 0};
  }
  const Bytes more = good ? Bytes() : in.rest();
  text.insert(text.end(), more.begin(), more.end());
  if ((choice & 4) != 0) {
    text.resize(kLaneGreetingLength);
  }
  say(ends[0], text, std::span<const int>(descriptors).first(count));
  if ((choice & 8) != 0) {
    close(ends[0]);
    ends[0] = -1;
  }
  {
    LaneGreeting seen;
    const LaneFault peeked = peek_greeting(ends[1], seen);
    LaneGreeting greeting;
    const LaneFault fault = receive_greeting(ends[1], greeting);
    if (fault == LaneFault::kNone) {
      must(text.size() == kLaneGreetingLength && greeting.count == (greeting.kind == LaneKind::kRegion ? 1U : 2U),
           "a greeting is one message of its length, with the descriptors of its kind");
      must(peeked == LaneFault::kNone && seen.kind == greeting.kind && seen.token == greeting.token,
           "what was seen is what was read");
      std::shared_ptr<LaneRegion> region;
      if (LaneRegion::adopt(greeting.descriptors[0].get(), 65536, region) == LaneFault::kNone) {
        must(!region->bytes().empty() && region->bytes().size() <= 65536, "a region is inside its limit");
        must(region->bytes()[region->bytes().size() - 1] == 0, "and can be read to its end");
      }
    }
  }
  must(LaneRegion::adopted() == 0, "no memory stays mapped");
  for (size_t i = 0; i < count; ++i) {
    close(descriptors[i]);
  }
  close(ends[1]);
  if (ends[0] >= 0) {
    close(ends[0]);
  }
  must(next_descriptor() == before, "no descriptor stays open");
  return 0;
}
