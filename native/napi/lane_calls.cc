#include "lane_calls.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "../core/key_table.h"
#include "../core/lane_region.h"
#include "../core/lane_socket.h"
#include "../core/private_memory.h"
#include "../core/token.h"
#include "../core/waiting_thread.h"
#include "arguments.h"

namespace dekd {
namespace {

thread_local int last_errno = 0;

// Regions that this thread gave numbers to: an environment that is terminated drops none of them itself.
class ThreadRegions final {
 public:
  ThreadRegions() = default;
  ~ThreadRegions() {
    for (const uint32_t number : numbers_) {
      LaneTable::shared().drop(number);
    }
  }
  ThreadRegions(const ThreadRegions&) = delete;
  ThreadRegions& operator=(const ThreadRegions&) = delete;

  uint32_t add(std::shared_ptr<LaneRegion> region) {
    numbers_.push_back(LaneTable::shared().add(std::move(region)));
    return numbers_.back();
  }

  void drop(uint32_t number) {
    std::erase(numbers_, number);
    LaneTable::shared().drop(number);
  }

 private:
  std::vector<uint32_t> numbers_;
};

thread_local ThreadRegions thread_regions;

Napi::Value fault(const Napi::CallbackInfo& info, LaneFault fault) {
  last_errno = fault == LaneFault::kSystem ? errno : last_errno;
  return Napi::Number::New(info.Env(), static_cast<int32_t>(fault));
}

Napi::Value answer(const Napi::CallbackInfo& info, Status status) {
  last_errno = status == Status::kSystemFailed ? errno : last_errno;
  return Napi::Number::New(info.Env(), static_cast<int32_t>(status));
}

// A part of a region, which stays mapped as long as this lives.
class Range final {
 public:
  // Reads `region, offset` of the arguments; `length` bytes.
  static Range read(Arguments& arguments, uint64_t& offset) {
    Range range;
    range.region_ = LaneTable::shared().find(arguments.number());
    offset = arguments.whole();
    return range;
  }

  // The bytes; not ok when they are not inside, or there is no such region.
  std::span<uint8_t> bytes(uint64_t offset, uint64_t length, bool& ok) const {
    const std::span<uint8_t> whole = region_ == nullptr ? std::span<uint8_t>() : region_->bytes();
    if (region_ == nullptr || offset > whole.size() || length > whole.size() - offset) {
      ok = false;
      return {};
    }
    return whole.subspan(offset, length);
  }

  const std::shared_ptr<LaneRegion>& region() const { return region_; }

 private:
  std::shared_ptr<LaneRegion> region_;
};

// ── the agent's side ────────────────────────────────────────────────────────────────────────────────────────────────

// lanePeek(socket, token 32): fault; sets the token of the greeting that has come, which stays unread
Napi::Value LanePeek(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int socket = arguments.descriptor();
  const auto token = arguments.bytes_of_length<kLaneTokenLength>();
  if (!arguments.ok()) {
    return fault(info, LaneFault::kMalformed);
  }
  LaneGreeting greeting;
  const LaneFault seen = peek_greeting(socket, greeting);
  std::memcpy(token.data(), greeting.token.data(), token.size());
  return fault(info, seen);
}

// laneWaiting(): pieces of work that wait for file systems of peers
Napi::Value LaneWaiting(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(WaitingThread::shared().waiting()));
}

// laneClose(descriptor): 0; closes what a peer sent, without waiting
Napi::Value LaneClose(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int descriptor = arguments.descriptor();
  if (arguments.ok()) {
    close_elsewhere(descriptor);
  }
  return answer(info, Status::kOk);
}

// laneReceive(socket, token 32): { kind, descriptors } or fault; the descriptors are the caller's to close. The token is
// the one that was seen; another greeting is malformed.
Napi::Value LaneReceive(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int socket = arguments.descriptor();
  const auto token = arguments.bytes_of_length<kLaneTokenLength>();
  if (!arguments.ok()) {
    return fault(info, LaneFault::kMalformed);
  }
  LaneGreeting greeting;
  const LaneFault received = receive_greeting(socket, greeting);
  if (received != LaneFault::kNone) {
    return fault(info, received);
  }
  if (std::memcmp(token.data(), greeting.token.data(), token.size()) != 0) {
    for (OwnedFd& descriptor : greeting.descriptors) {
      if (descriptor.get() >= 0) {
        close_elsewhere(descriptor.release());
      }
    }
    return fault(info, LaneFault::kMalformed);
  }
  Napi::Array descriptors = Napi::Array::New(info.Env(), greeting.count);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("kind", static_cast<uint32_t>(greeting.kind));
  result.Set("descriptors", descriptors);
  for (size_t i = 0; i < greeting.count; ++i) {
    descriptors.Set(static_cast<uint32_t>(i), Napi::Number::New(info.Env(), greeting.descriptors[i].get()));
  }
  // Only what JavaScript has got is its to close.
  if (!info.Env().IsExceptionPending()) {
    for (OwnedFd& descriptor : greeting.descriptors) {
      descriptor.release();
    }
  }
  return result;
}

// laneAdopt(fd, limit): { region, size } or fault
Napi::Value LaneAdopt(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.descriptor();
  const uint64_t limit = arguments.whole();
  std::shared_ptr<LaneRegion> region;
  const LaneFault adopted = arguments.ok() ? LaneRegion::adopt(fd, limit, region) : LaneFault::kMalformed;
  if (adopted != LaneFault::kNone) {
    return fault(info, adopted);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("size", static_cast<double>(region->bytes().size()));
  result.Set("region", thread_regions.add(std::move(region)));
  return result;
}

// laneDrop(region): 0
Napi::Value LaneDrop(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t region = arguments.number();
  if (arguments.ok()) {
    thread_regions.drop(region);
  }
  return answer(info, Status::kOk);
}

// laneAdopted(): bytes
Napi::Value LaneAdopted(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(LaneRegion::adopted()));
}

using TokenCall = Status (*)(KeyTable&, KeyHandle, std::span<const uint8_t>, std::span<const uint8_t>,
                             std::span<uint8_t>);

// laneSeal and laneOpen(key, context, region, offset, length, region of the result, offset of the result): status. The
// result is `length` bytes and kGrow more, or kShrink less.
template <TokenCall kCall, size_t kGrow, size_t kShrink>
Napi::Value LaneToken(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const KeyHandle key = arguments.number();
  const std::span<const uint8_t> context = arguments.bytes();
  uint64_t in_offset = 0;
  const Range in = Range::read(arguments, in_offset);
  const uint64_t length = arguments.whole();
  uint64_t out_offset = 0;
  const Range out = Range::read(arguments, out_offset);
  bool inside = arguments.ok() && length >= kShrink;
  const std::span<const uint8_t> data = in.bytes(in_offset, length, inside);
  const std::span<uint8_t> result = out.bytes(out_offset, length + kGrow - kShrink, inside);
  return answer(info, inside ? kCall(KeyTable::shared(), key, context, data, result) : Status::kInvalidArgument);
}

// laneRelease(): 0; gives memory back that opening has used on this thread
Napi::Value LaneRelease(const Napi::CallbackInfo& info) {
  release_private_memory();
  return answer(info, Status::kOk);
}

// ── both sides ──────────────────────────────────────────────────────────────────────────────────────────────────────

// laneRead(region, offset, out): status
Napi::Value LaneRead(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  uint64_t offset = 0;
  const Range range = Range::read(arguments, offset);
  const std::span<uint8_t> out = arguments.bytes();
  bool inside = arguments.ok();
  const std::span<const uint8_t> bytes = range.bytes(offset, out.size(), inside);
  if (!inside) {
    return answer(info, Status::kInvalidArgument);
  }
  if (!bytes.empty()) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
  }
  return answer(info, Status::kOk);
}

// laneWrite(region, offset, bytes): status
Napi::Value LaneWrite(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  uint64_t offset = 0;
  const Range range = Range::read(arguments, offset);
  const std::span<const uint8_t> bytes = arguments.bytes();
  bool inside = arguments.ok();
  const std::span<uint8_t> out = range.bytes(offset, bytes.size(), inside);
  if (!inside) {
    return answer(info, Status::kInvalidArgument);
  }
  if (!bytes.empty()) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
  }
  return answer(info, Status::kOk);
}

// ── the client's side ───────────────────────────────────────────────────────────────────────────────────────────────

// laneCreate(size): { region, size } or fault
Napi::Value LaneCreate(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint64_t size = arguments.whole();
  std::shared_ptr<LaneRegion> region;
  const LaneFault created = arguments.ok() ? LaneRegion::create(size, region) : LaneFault::kSize;
  if (created != LaneFault::kNone) {
    return fault(info, created);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("size", static_cast<double>(size));
  result.Set("region", thread_regions.add(std::move(region)));
  return result;
}

// laneBuffer(region, offset, length): ArrayBuffer over that part, or status; the region stays mapped as long as it lives
Napi::Value LaneBuffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  uint64_t offset = 0;
  const Range range = Range::read(arguments, offset);
  const uint64_t length = arguments.whole();
  bool inside = arguments.ok();
  const std::span<uint8_t> bytes = range.bytes(offset, length, inside);
  if (!inside || bytes.empty()) {
    return answer(info, Status::kInvalidArgument);
  }
  auto keeper = std::make_unique<std::shared_ptr<LaneRegion>>(range.region());
  const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      info.Env(), bytes.data(), bytes.size(),
      [](Napi::BasicEnv, void*, std::shared_ptr<LaneRegion>* kept) { delete kept; }, keeper.get());
  if (!info.Env().IsExceptionPending()) {
    keeper.release();
  }
  return buffer;
}

// laneShare(socket, token 32, region): fault
Napi::Value LaneShare(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int socket = arguments.descriptor();
  const auto token = arguments.bytes_of_length<kLaneTokenLength>();
  const std::shared_ptr<LaneRegion> region = LaneTable::shared().find(arguments.number());
  if (!arguments.ok() || region == nullptr || region->descriptor() < 0) {
    return fault(info, LaneFault::kNotMemfd);
  }
  const int descriptors[] = {region->descriptor()};
  return fault(info, send_greeting(socket, LaneKind::kRegion, token, descriptors));
}

// laneShareFiles(socket, token 32, file to read, file to write): fault
Napi::Value LaneShareFiles(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int socket = arguments.descriptor();
  const auto token = arguments.bytes_of_length<kLaneTokenLength>();
  const int source = arguments.descriptor();
  const int target = arguments.descriptor();
  if (!arguments.ok()) {
    return fault(info, LaneFault::kNotRegular);
  }
  const int descriptors[] = {source, target};
  return fault(info, send_greeting(socket, LaneKind::kFiles, token, descriptors));
}

using Function = Napi::Value (*)(const Napi::CallbackInfo&);

template <Function kFunction>
void set(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<kFunction>(env, name));
}

}  // namespace

int lane_errno() { return last_errno; }

void export_lane_calls(Napi::Env env, Napi::Object exports) {
  set<LanePeek>(env, exports, "lanePeek");
  set<LaneReceive>(env, exports, "laneReceive");
  set<LaneClose>(env, exports, "laneClose");
  set<LaneWaiting>(env, exports, "laneWaiting");
  set<LaneAdopt>(env, exports, "laneAdopt");
  set<LaneDrop>(env, exports, "laneDrop");
  set<LaneAdopted>(env, exports, "laneAdopted");
  set<LaneToken<seal_shared_token, kTokenOverhead, 0>>(env, exports, "laneSeal");
  set<LaneToken<open_shared_token, 0, kTokenOverhead>>(env, exports, "laneOpen");
  set<LaneRelease>(env, exports, "laneRelease");
  set<LaneRead>(env, exports, "laneRead");
  set<LaneWrite>(env, exports, "laneWrite");
  set<LaneCreate>(env, exports, "laneCreate");
  set<LaneBuffer>(env, exports, "laneBuffer");
  set<LaneShare>(env, exports, "laneShare");
  set<LaneShareFiles>(env, exports, "laneShareFiles");
}

}  // namespace dekd
