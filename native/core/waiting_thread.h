#ifndef DEKD_CORE_WAITING_THREAD_H_
#define DEKD_CORE_WAITING_THREAD_H_

#include <pthread.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <semaphore>

namespace dekd {

// WaitingThread does in one thread of its own, one after the other, what may wait for a file system that answers late or
// never: looking at a descriptor of a peer, and closing it, which on FUSE or NFS asks whoever serves it. Such a wait ends
// no earlier than the server wants, so nobody else may be behind it: not the thread of JavaScript, nor libuv's few.
class WaitingThread final {
 public:
  static WaitingThread& shared();

  // Any thread; never waits. Whoever lets others cause work looks at waiting() before.
  void run(std::function<void()> work);
  // Pieces of work that have not ended.
  size_t waiting() const;

 private:
  static void* begin(void* self);
  [[noreturn]] void go();

  mutable std::mutex mutex_;
  std::deque<std::function<void()>> queue_;
  std::counting_semaphore<> given_{0};
  size_t waiting_ = 0;
  bool is_begun_ = false;
};

// close_elsewhere closes a descriptor that a peer may have chosen, without waiting.
void close_elsewhere(int fd);

}  // namespace dekd

#endif  // DEKD_CORE_WAITING_THREAD_H_
