#include "file_calls.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/file_pass.h"
#include "../core/key_table.h"
#include "../core/owned_fd.h"
#include "../core/waiting_thread.h"
#include "arguments.h"

namespace dekd {
namespace {

// The passes of this thread, by number. A step that runs holds its pass.
thread_local std::unordered_map<uint32_t, std::shared_ptr<FilePass>> passes;
thread_local uint32_t next_pass = 1;

uint32_t number_of(std::shared_ptr<FilePass> pass) {
  while (next_pass == 0 || next_pass > INT32_MAX || passes.contains(next_pass)) {
    next_pass = next_pass > INT32_MAX ? 1 : next_pass + 1;
  }
  passes.emplace(next_pass, std::move(pass));
  return next_pass++;
}

std::shared_ptr<FilePass> find(uint32_t number) {
  const auto found = passes.find(number);
  return found == passes.end() ? nullptr : found->second;
}

// What a step on another thread came to.
struct Outcome final {
  Status status = Status::kInvalidArgument;
  int reason = 0;
  FileStep step;
  std::vector<uint8_t> bytes;
};

// Step runs `work` on a thread of the pool. Its promise gives { status, errno, read, written, ended, trailing, bytes }
// and is never rejected.
class Step final : public Napi::AsyncWorker {
 public:
  Step(Napi::Env env, std::function<void(Outcome&)> work)
      : Napi::AsyncWorker(env, "dekd.file"), promise_(Napi::Promise::Deferred::New(env)), work_(std::move(work)) {}

  Napi::Promise promise() const { return promise_.Promise(); }

  void Execute() override {
    work_(outcome_);
    outcome_.reason = outcome_.status == Status::kSystemFailed ? errno : 0;
    // What it holds is let go of here, where waiting for a disk is allowed.
    work_ = nullptr;
  }

  void OnOK() override {
    Napi::Object result = Napi::Object::New(Env());
    result.Set("status", static_cast<int32_t>(outcome_.status));
    result.Set("errno", outcome_.reason);
    result.Set("read", static_cast<double>(outcome_.step.read));
    result.Set("written", static_cast<double>(outcome_.step.written));
    result.Set("ended", outcome_.step.ended);
    result.Set("trailing", outcome_.step.trailing);
    Napi::Uint8Array bytes = Napi::Uint8Array::New(Env(), outcome_.bytes.size());
    if (!Env().IsExceptionPending() && !outcome_.bytes.empty()) {
      std::memcpy(bytes.Data(), outcome_.bytes.data(), outcome_.bytes.size());
    }
    result.Set("bytes", bytes);
    promise_.Resolve(result);
  }

 private:
  Napi::Promise::Deferred promise_;
  std::function<void(Outcome&)> work_;
  Outcome outcome_;
};

Napi::Value run(const Napi::CallbackInfo& info, std::function<void(Outcome&)> work) {
  auto* const step = new Step(info.Env(), std::move(work));
  const Napi::Promise promise = step->promise();
  // Deletes itself when it is done.
  step->Queue();
  return promise;
}

// What looking at two files came to, on its way back to JavaScript.
struct Look final {
  explicit Look(Napi::Env env) : promise(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise::Deferred promise;
  LaneFault fault = LaneFault::kSystem;
  std::shared_ptr<FilePass> pass;
};

void looked(Napi::Env env, Napi::Function, std::nullptr_t*, Look* look) {
  const std::unique_ptr<Look> owned(look);
  // Without an environment nobody waits any more.
  if (env != nullptr) {
    owned->promise.Resolve(Napi::Number::New(
        env, owned->fault == LaneFault::kNone ? static_cast<double>(number_of(std::move(owned->pass)))
                                              : -static_cast<double>(owned->fault)));
  }
}

using LookBack = Napi::TypedThreadSafeFunction<std::nullptr_t, Look, looked>;

// fileOpen(source, target): promise of a pass, or of a fault made negative; the descriptors are not the caller's any more
Napi::Value FileOpen(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  auto source = std::make_shared<OwnedFd>(arguments.descriptor());
  auto target = std::make_shared<OwnedFd>(arguments.descriptor());
  auto look = std::make_unique<Look>(info.Env());
  const Napi::Promise promise = look->promise.Promise();
  LookBack back = LookBack::New(info.Env(), "dekd.look", 0, 1);
  // A file system that never answers is nothing to keep the process for.
  back.Unref(info.Env());
  WaitingThread::shared().run([source, target, back, look = look.release()] {
    look->fault = FilePass::open(std::move(*source), std::move(*target), look->pass);
    if (back.NonBlockingCall(look) != napi_ok) {
      delete look;
    }
    LookBack(back).Release();
  });
  return promise;
}

// fileClose(pass): 0
Napi::Value FileClose(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto found = passes.find(arguments.number());
  if (found != passes.end()) {
    // Of a file that was deleted, closing it gives all of its blocks back first.
    WaitingThread::shared().run([pass = std::move(found->second)]() mutable { pass.reset(); });
    passes.erase(found);
  }
  return Napi::Number::New(info.Env(), 0);
}

// fileRead(pass, offset, length): promise
Napi::Value FileRead(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::shared_ptr<FilePass> pass = find(arguments.number());
  const uint64_t offset = arguments.whole();
  const uint32_t length = arguments.number();
  const bool ok = arguments.ok() && pass != nullptr;
  return run(info, [pass = std::move(pass), offset, length, ok](Outcome& outcome) {
    if (ok) {
      outcome.bytes.resize(length);
      size_t got = 0;
      outcome.status = pass->read(offset, outcome.bytes, got);
      outcome.bytes.resize(got);
    }
  });
}

// fileSeal(pass, message, frame length, header): promise
Napi::Value FileSeal(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::shared_ptr<FilePass> pass = find(arguments.number());
  const KeyHandle message = arguments.number();
  const uint32_t frame_length = arguments.number();
  const std::span<const uint8_t> given = arguments.bytes();
  const bool ok = arguments.ok() && pass != nullptr;
  return run(info, [pass = std::move(pass), message, frame_length,
                    header = std::vector<uint8_t>(given.begin(), given.end()), ok](Outcome& outcome) {
    if (ok) {
      outcome.status = pass->seal(KeyTable::shared(), message, frame_length, header, outcome.step);
    }
  });
}

// fileOpenFrames(pass, message, frame length, offset of the body): promise
Napi::Value FileOpenFrames(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::shared_ptr<FilePass> pass = find(arguments.number());
  const KeyHandle message = arguments.number();
  const uint32_t frame_length = arguments.number();
  const uint64_t body = arguments.whole();
  const bool ok = arguments.ok() && pass != nullptr;
  return run(info, [pass = std::move(pass), message, frame_length, body, ok](Outcome& outcome) {
    if (ok) {
      outcome.status = pass->open_frames(KeyTable::shared(), message, frame_length, body, outcome.step);
    }
  });
}

using Function = Napi::Value (*)(const Napi::CallbackInfo&);

template <Function kFunction>
void set(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<kFunction>(env, name));
}

}  // namespace

void export_file_calls(Napi::Env env, Napi::Object exports) {
  set<FileOpen>(env, exports, "fileOpen");
  set<FileClose>(env, exports, "fileClose");
  set<FileRead>(env, exports, "fileRead");
  set<FileSeal>(env, exports, "fileSeal");
  set<FileOpenFrames>(env, exports, "fileOpenFrames");
}

}  // namespace dekd
