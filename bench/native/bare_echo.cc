// The limit of the socket: two processes of a few lines each, joined by a Unix stream socket, one of which sends back
// what it reads. Lines on standard input are `COUNT WIDTH BYTES`: so many messages of so many bytes, so many under way at
// once; each is answered with the milliseconds they took. Ends with standard input.
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr size_t kChunk = 256 * 1024;

void serve(int socket) {
  std::vector<uint8_t> buffer(kChunk);
  for (;;) {
    const ssize_t got = recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      return;
    }
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t now = send(socket, buffer.data() + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      if (now < 0) {
        return;
      }
      sent += now;
    }
  }
}

// Never waits in send while there is something to receive: the other side may be waiting for that.
bool ask(int socket, uint64_t count, uint64_t width, uint64_t bytes, std::vector<uint8_t>& buffer) {
  const uint64_t total = count * bytes;
  const uint64_t window = width * bytes;
  uint64_t sent = 0;
  for (uint64_t received = 0; received < total;) {
    const uint64_t allowed = std::min(total, received - received % bytes + window);
    ssize_t out = 0;
    if (sent < allowed) {
      out = send(socket, buffer.data(), std::min<uint64_t>(allowed - sent, kChunk), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (out < 0 && errno != EAGAIN) {
        return false;
      }
      sent += out > 0 ? static_cast<uint64_t>(out) : 0;
    }
    const ssize_t in = recv(socket, buffer.data(), kChunk, sent < allowed ? MSG_DONTWAIT : 0);
    if (in == 0 || (in < 0 && errno != EAGAIN)) {
      return false;
    }
    received += in > 0 ? static_cast<uint64_t>(in) : 0;
    if (out <= 0 && in <= 0) {
      pollfd both = {socket, POLLIN | POLLOUT, 0};
      poll(&both, 1, -1);
    }
  }
  return true;
}

}  // namespace

int main() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    std::perror("socketpair");
    return 1;
  }
  const pid_t server = fork();
  if (server < 0) {
    std::perror("fork");
    return 1;
  }
  if (server == 0) {
    close(ends[0]);
    serve(ends[1]);
    _exit(0);
  }
  close(ends[1]);
  std::vector<uint8_t> buffer(kChunk, 7);
  unsigned long long count = 0;
  unsigned long long width = 0;
  unsigned long long bytes = 0;
  while (std::scanf("%llu %llu %llu", &count, &width, &bytes) == 3) {
    const auto begun = std::chrono::steady_clock::now();
    if (bytes == 0 || width == 0 || !ask(ends[0], count, width, bytes, buffer)) {
      return 1;
    }
    const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - begun;
    std::printf("%.6f\n", taken.count());
    std::fflush(stdout);
  }
  return 0;
}
