#ifndef DEKD_CORE_LANE_SOCKET_H_
#define DEKD_CORE_LANE_SOCKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lane_region.h"
#include "owned_fd.h"

namespace dekd {

// What a lane connection says, once: "DKL1" | u8 kind | 3 zero | token 32, with as many descriptors as its kind has.
enum class LaneKind : uint8_t { kRegion = 1, kFiles = 2 };
inline constexpr size_t kLaneTokenLength = 32;
inline constexpr size_t kLaneGreetingLength = 40;
inline constexpr size_t kMaxLaneDescriptors = 2;

struct LaneGreeting final {
  LaneKind kind = LaneKind::kRegion;
  std::array<uint8_t, kLaneTokenLength> token{};
  // One for kRegion; for kFiles the file to read and the one to write.
  std::array<OwnedFd, kMaxLaneDescriptors> descriptors;
  size_t count = 0;
};

// peek_greeting looks at what has come on a connected Unix socket without waiting, before anything else has read of it, and
// leaves it there: who it is from is decided before any descriptor of his becomes one of this process, where even closing
// it may mean to wait for him. Sets kind and token.
LaneFault peek_greeting(int socket, LaneGreeting& greeting);

// receive_greeting reads it. A greeting is one message: what comes in pieces, with more bytes, or with another number of
// descriptors is kMalformed. Every descriptor that came is in `greeting` or, when that is not kNone, closed elsewhere.
LaneFault receive_greeting(int socket, LaneGreeting& greeting);

// send_greeting says it, with `count` descriptors of `descriptors`, which stay the caller's.
LaneFault send_greeting(int socket, LaneKind kind, std::span<const uint8_t, kLaneTokenLength> token,
                        std::span<const int> descriptors);

}  // namespace dekd

#endif  // DEKD_CORE_LANE_SOCKET_H_
