#include "peer_identity.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

namespace dekd {
namespace {

bool peer_groups(int fd, std::vector<gid_t>& groups) {
  // Most callers have fewer groups; the kernel answers ERANGE with the length that is needed.
  groups.resize(32);
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) == 0) {
      groups.resize(length / sizeof(gid_t));
      return true;
    }
    if (errno != ERANGE) {
      break;
    }
    groups.resize(length / sizeof(gid_t));
  }
  groups.clear();
  return errno == ENOPROTOOPT;
}

}  // namespace

bool peer_identity(int fd, PeerIdentity& peer) {
  // A TCP socket answers SO_PEERCRED too, with all ones: only a Unix socket's answer means anything.
  int domain = 0;
  socklen_t length = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) {
    return false;
  }
  if (domain != AF_UNIX) {
    errno = ENOTSUP;
    return false;
  }
  ucred credentials{};
  length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return false;
  }
  // A socket that is not connected answers with no process and all ones.
  if (credentials.uid == static_cast<uid_t>(-1)) {
    errno = ENOTCONN;
    return false;
  }
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  return peer_groups(fd, peer.groups);
}

}  // namespace dekd
