#include "waiting_thread.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

namespace dekd {

WaitingThread& WaitingThread::shared() {
  // Never destroyed: its thread may be waiting when the process ends.
  static WaitingThread* const thread = new WaitingThread();
  return *thread;
}

void WaitingThread::run(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    ++waiting_;
    if (!is_begun_) {
      // Signals are for the threads that expect them.
      sigset_t all;
      sigset_t before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      pthread_t thread{};
      // Where no thread is to be had, the work waits for the next try.
      is_begun_ = pthread_create(&thread, nullptr, begin, this) == 0;
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (is_begun_) {
        pthread_detach(thread);
      }
    }
  }
  given_.release();
}

size_t WaitingThread::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

void* WaitingThread::begin(void* self) { static_cast<WaitingThread*>(self)->go(); }

void WaitingThread::go() {
  for (;;) {
    given_.acquire();
    std::function<void()> work;
    {
      const std::lock_guard lock(mutex_);
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
    // What it held may be a descriptor that is closed by letting go of it.
    work = nullptr;
    const std::lock_guard lock(mutex_);
    --waiting_;
  }
}

void close_elsewhere(int fd) {
  // Only memory has seals, and nobody serves it.
  if (fcntl(fd, F_GET_SEALS) >= 0) {
    close(fd);
    return;
  }
  WaitingThread::shared().run([fd] { close(fd); });
}

}  // namespace dekd
