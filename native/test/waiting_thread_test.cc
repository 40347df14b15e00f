#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <semaphore>

#include "../core/owned_fd.h"
#include "../core/waiting_thread.h"
#include "harness.h"

namespace dekd::test {
namespace {

const Test kWaits("work that waits keeps nobody but the work behind it", [] {
  // Static: its thread outlives the test.
  static std::binary_semaphore answer(0);
  static std::binary_semaphore done(0);
  WaitingThread& thread = WaitingThread::shared();
  thread.run([] { answer.acquire(); });
  int ends[2];
  expect(pipe2(ends, O_CLOEXEC) == 0);
  const OwnedFd reader(ends[0]);
  close_elsewhere(ends[1]);
  expect(thread.waiting() == 2);
  expect(fcntl(ends[1], F_GETFD) >= 0);
  answer.release();
  thread.run([] { done.release(); });
  done.acquire();
  expect(fcntl(ends[1], F_GETFD) < 0);
});

const Test kMemory("memory that a peer sent is closed at once", [] {
  const int fd = memfd_create("lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  close_elsewhere(fd);
  expect(fcntl(fd, F_GETFD) < 0);
});

}  // namespace
}  // namespace dekd::test
