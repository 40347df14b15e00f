#include "random.h"

#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "secret.h"

namespace dekd {
namespace {

std::atomic<bool> snapshot_safe{false};

// Any word that a page of zeros does not hold.
constexpr uint64_t kEpoch = 0x64656b642d31;

struct Page final {
  uint64_t epoch;
  uint64_t next;  // offset in `bytes` of the first byte not yet given out
  uint8_t bytes[kRandomBuffer - 2 * sizeof(uint64_t)];
};
static_assert(sizeof(Page) == kRandomBuffer);

// NonceBuffer is the calling thread's page, mapped at its first draw and unmapped when the thread ends.
class NonceBuffer final {
 public:
  NonceBuffer() = default;
  ~NonceBuffer() {
    if (page_ != nullptr) {
      wipe({page_->bytes, sizeof page_->bytes});
      munmap(page_, sizeof(Page));
    }
  }
  NonceBuffer(const NonceBuffer&) = delete;
  NonceBuffer& operator=(const NonceBuffer&) = delete;

  // The page, or null where the kernel cannot wipe it on fork: then there is no buffering.
  Page* page() {
    if (page_ == nullptr && !refused_) {
      map();
    }
    return page_;
  }

 private:
  void map() {
    void* const mapped =
        mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
      refused_ = true;
      return;
    }
    if (madvise(mapped, sizeof(Page), MADV_WIPEONFORK) != 0) {
      munmap(mapped, sizeof(Page));
      refused_ = true;
      return;
    }
    // Not worth failing for: the bytes become public nonces.
    (void)madvise(mapped, sizeof(Page), MADV_DONTDUMP);
    page_ = static_cast<Page*>(mapped);
  }

  Page* page_ = nullptr;
  bool refused_ = false;
};

thread_local NonceBuffer nonce_buffer;

}  // namespace

Status fill_random(std::span<uint8_t> out) {
  size_t filled = 0;
  while (filled < out.size()) {
    const ssize_t got = getrandom(out.data() + filled, out.size() - filled, 0);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      wipe(out);
      return Status::kRandomFailed;
    }
    filled += static_cast<size_t>(got);
  }
  return Status::kOk;
}

Status draw_nonce(std::span<uint8_t> out) {
  Page* const page = snapshot_safe.load(std::memory_order_relaxed) ? nullptr : nonce_buffer.page();
  if (page == nullptr || out.size() > sizeof page->bytes) {
    return fill_random(out);
  }
  if (page->epoch != kEpoch || page->next + out.size() > sizeof page->bytes) {
    // The epoch is set last: a half-filled page is never drawn from.
    page->epoch = 0;
    const Status status = fill_random(page->bytes);
    if (status != Status::kOk) {
      return status;
    }
    page->next = 0;
    page->epoch = kEpoch;
  }
  uint8_t* const source = page->bytes + page->next;
  page->next += out.size();
  std::memcpy(out.data(), source, out.size());
  wipe({source, out.size()});
  return Status::kOk;
}

void set_snapshot_safe(bool on) { snapshot_safe.store(on, std::memory_order_relaxed); }

}  // namespace dekd
