#include "hot_calls.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/key_table.h"
#include "../core/mac_rows.h"
#include "../core/token.h"

namespace dekd {
namespace {

// A failing conversion is remembered and answered with a status: a worker that is being terminated can neither throw nor
// make values, and must still return quietly.
class Call final {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = values_.size();
    void* data = nullptr;
    ok_ = napi_get_cb_info(env, info, &count, values_.data(), nullptr, &data) == napi_ok;
    words_ = static_cast<CallWords*>(data);
  }

  CallWords* words() const { return words_; }

  uint64_t number(size_t index) {
    int64_t value = -1;
    ok_ = napi_get_value_int64(env_, values_[index], &value) == napi_ok && value >= 0 && ok_;
    return static_cast<uint64_t>(value);
  }

  // A number of the call's words. Anything but a whole number from 0 to 2^53 is refused.
  uint64_t whole(double word) {
    constexpr double kLimit = 9007199254740992;
    const uint64_t value = word >= 0 && word < kLimit ? static_cast<uint64_t>(word) : UINT64_MAX;
    ok_ = static_cast<double>(value) == word && ok_;
    return value;
  }

  std::span<uint8_t> bytes(size_t index) { return array<uint8_t>(index, napi_uint8_array); }
  std::span<uint32_t> table(size_t index) { return array<uint32_t>(index, napi_uint32_array); }

  // The part of `whole` from `offset` on, `length` long; nothing and not ok when it is not inside.
  template <typename T>
  std::span<T> part(std::span<T> whole, uint64_t offset, uint64_t length) {
    if (offset > whole.size() || length > whole.size() - offset) {
      ok_ = false;
      return {};
    }
    return whole.subspan(offset, length);
  }

  bool ok() const { return ok_; }

  napi_value answer(Status status) {
    napi_value result = nullptr;
    // Undefined when the environment is going away; nobody is left to read it.
    (void)napi_create_int32(env_, static_cast<int32_t>(status), &result);
    return result;
  }

 private:
  template <typename T>
  std::span<T> array(size_t index, napi_typedarray_type wanted) {
    napi_typedarray_type type = wanted;
    void* data = nullptr;
    size_t length = 0;
    ok_ = napi_get_typedarray_info(env_, values_[index], &type, &length, &data, nullptr, nullptr) == napi_ok &&
          type == wanted && ok_;
    return ok_ ? std::span<T>(static_cast<T*>(data), length) : std::span<T>();
  }

  napi_env env_;
  // Missing arguments come as undefined and fail their conversion.
  std::array<napi_value, 5> values_{};
  CallWords* words_ = nullptr;
  bool ok_ = false;
};

// The arguments of Seal and Open.
struct Single final {
  KeyHandle key;
  std::span<const uint8_t> context;
  std::span<const uint8_t> data;
  std::span<uint8_t> out;

  // The output is the length of the data, `grow` longer or `shrink` shorter; nothing when the data are shorter still.
  Single(Call& call, size_t grow, size_t shrink) {
    const CallWords& words = *call.words();
    const std::span<const uint8_t> input = call.bytes(0);
    const std::span<uint8_t> output = call.bytes(1);
    const uint64_t handle = call.whole(words.key);
    key = handle > UINT32_MAX ? 0 : static_cast<KeyHandle>(handle);
    context = call.part(input, call.whole(words.context_offset), call.whole(words.context_length));
    data = call.part(input, call.whole(words.data_offset), call.whole(words.data_length));
    out = call.part(output, call.whole(words.out_offset), data.size() < shrink ? 0 : data.size() + grow - shrink);
  }
};

using Many = Status (*)(KeyTable&, std::span<uint32_t>, std::span<const uint8_t>, std::span<uint8_t>);

napi_value run_many(napi_env env, napi_callback_info info, Many many) {
  Call call(env, info);
  const std::span<uint32_t> table = call.table(0);
  const uint64_t count = call.number(1);
  const std::span<const uint8_t> input = call.bytes(2);
  const std::span<uint8_t> output = call.bytes(3);
  if (!call.ok() || count > table.size() / kRowWords) {
    return call.answer(Status::kInvalidArgument);
  }
  return call.answer(many(KeyTable::shared(), table.first(count * kRowWords), input, output));
}

}  // namespace

napi_value Seal(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const Single single(call, kTokenOverhead, 0);
  const Status status = call.ok()
                            ? seal_token(KeyTable::shared(), single.key, single.context, single.data, single.out)
                            : Status::kInvalidArgument;
  call.words()->status = static_cast<double>(status);
  return nullptr;
}

napi_value Open(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const Single single(call, 0, kTokenOverhead);
  const Status status = call.ok()
                            ? open_token(KeyTable::shared(), single.key, single.context, single.data, single.out)
                            : Status::kInvalidArgument;
  call.words()->status = static_cast<double>(status);
  return nullptr;
}

napi_value SealMany(napi_env env, napi_callback_info info) { return run_many(env, info, seal_many); }

napi_value OpenMany(napi_env env, napi_callback_info info) { return run_many(env, info, open_many); }

napi_value MacMany(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const std::span<uint32_t> table = call.table(0);
  const uint64_t count = call.number(1);
  const std::span<const uint8_t> scopes = call.bytes(2);
  const std::span<const uint8_t> input = call.bytes(3);
  const std::span<uint8_t> output = call.bytes(4);
  if (!call.ok() || count > table.size() / kRowWords) {
    return call.answer(Status::kInvalidArgument);
  }
  return call.answer(mac_many(KeyTable::shared(), table.first(count * kRowWords), scopes, input, output));
}

napi_value VerifyMacMany(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const std::span<uint32_t> table = call.table(0);
  const uint64_t count = call.number(1);
  const std::span<const uint8_t> scopes = call.bytes(2);
  const std::span<const uint8_t> input = call.bytes(3);
  if (!call.ok() || count > table.size() / kRowWords) {
    return call.answer(Status::kInvalidArgument);
  }
  return call.answer(verify_mac_many(KeyTable::shared(), table.first(count * kRowWords), scopes, input));
}

}  // namespace dekd
