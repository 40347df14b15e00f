#ifndef DEKD_CORE_PEER_IDENTITY_H_
#define DEKD_CORE_PEER_IDENTITY_H_

#include <sys/types.h>

#include <vector>

namespace dekd {

// Who was on the other end of a Unix socket when it was connected, as the kernel tells it. The pid is left out on
// purpose: it is 0 across sibling containers and may name another process by the time it is read.
struct PeerIdentity final {
  uid_t uid = 0;
  gid_t gid = 0;
  // Supplementary groups; empty as well where the kernel has no SO_PEERGROUPS (before 4.13).
  std::vector<gid_t> groups;
};

// peer_identity reads SO_PEERCRED and SO_PEERGROUPS of a connected socket. False, with errno, when it is not one.
bool peer_identity(int fd, PeerIdentity& peer);

}  // namespace dekd

#endif  // DEKD_CORE_PEER_IDENTITY_H_
