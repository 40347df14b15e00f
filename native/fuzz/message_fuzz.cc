// Bodies of messages: frames that are the fuzzer's, and good ones that it changed, cut and put in another order.

#include "../core/message.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "../core/data_key.h"
#include "../core/key_wrap.h"
#include "fuzz.h"

using namespace dekd;
using namespace dekd::fuzz;

namespace {

KeyHandle data_key() {
  static const KeyHandle kKey = made(generate_key(table(), kDataKeyUse, 0));
  return kKey;
}

// One message on both sides: sealed as far as its header, and ready to be opened. Gone with the scope.
class Message final {
 public:
  explicit Message(uint32_t frame_length) {
    const bool framed = frame_length != 0;
    sealing_ = made(begin_message(table(), data_key(), framed ? frame_length : 1, 0, id_, commitment_));
    opening_ = made(
        resume_message(table(), data_key(), MessageSuite::kCommitted, id_, frame_length, commitment_, 0));
    const Bytes header(32, 9);
    std::array<uint8_t, kTagLength> tag;
    must(seal_header(table(), sealing_, header, {}, tag) == Status::kOk, "a header is sealed");
    must(verify_header(table(), opening_, header, {}, tag) == Status::kOk, "and verified");
  }
  ~Message() {
    table().destroy(sealing_);
    table().destroy(opening_);
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  KeyHandle sealing() const { return sealing_; }
  KeyHandle opening() const { return opening_; }

 private:
  std::array<uint8_t, kMessageIdLength> id_{};
  std::array<uint8_t, kCommitmentLength> commitment_{};
  KeyHandle sealing_ = 0;
  KeyHandle opening_ = 0;
};

// Gives `body` to the reader in pieces as the input says. @returns the plaintext, and whether it ended well.
std::pair<Bytes, bool> open_in_pieces(KeyHandle message, const Bytes& body, Input& in) {
  Bytes plaintext;
  Bytes held;
  size_t at = 0;
  while (at < body.size()) {
    const size_t piece = in.left() == 0 ? body.size() - at : std::min<size_t>(body.size() - at, in.byte() + 1U);
    held.insert(held.end(), body.begin() + static_cast<ptrdiff_t>(at), body.begin() + static_cast<ptrdiff_t>(at + piece));
    at += piece;
    Bytes out(held.size(), 0x55);
    OpenedFrames opened;
    const Status status = open_frames(table(), message, held, out, opened);
    if (status != Status::kOk) {
      must(status != Status::kAuthenticationFailed || all_zero(out), "refused frames leave zeros");
      return {plaintext, false};
    }
    must(opened.consumed <= held.size() && opened.produced <= opened.consumed, "no more comes out than went in");
    plaintext.insert(plaintext.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(opened.produced));
    held.erase(held.begin(), held.begin() + static_cast<ptrdiff_t>(opened.consumed));
    if (opened.final) {
      return {plaintext, held.empty() && at == body.size()};
    }
  }
  return {plaintext, false};
}

constexpr std::array<uint32_t, 8> kFrameLengths{1, 2, 7, 16, 64, 100, 255, 4096};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const uint8_t choice = in.byte();
  const uint32_t frame_length = kFrameLengths[in.byte() % kFrameLengths.size()];
  if (choice % 4 == 0) {
    // Anything at all, framed or not, from any frame on.
    const Message message((choice & 4) != 0 ? 0 : frame_length);
    if ((choice & 8) != 0) {
      (void)seek_frame(table(), message.opening(), in.word());
    }
    Input cuts(data, size);
    const auto [plaintext, ended] = open_in_pieces(message.opening(), in.rest(), cuts);
    must(plaintext.empty() && !ended, "made-up frames give nothing");
    return 0;
  }
  const Message message(frame_length);
  const Bytes plaintext = in.bytes(in.byte() * 2U);
  const Bytes changes = in.bytes(in.byte() % 16);
  Bytes body(sealed_length(plaintext.size(), frame_length, true));
  must(seal_frames(table(), message.sealing(), plaintext, true, body) == Status::kOk, "a body is sealed");
  const Bytes whole = body;
  Input change(changes.data(), changes.size());
  while (change.left() >= 3) {
    const uint8_t kind = change.byte();
    const size_t at = change.byte() % (body.size() + 1);
    const uint8_t value = change.byte();
    if (kind % 4 == 0 && at < body.size()) {
      body[at] ^= value;
    } else if (kind % 4 == 1) {
      body.resize(body.size() - std::min<size_t>(body.size(), value));
    } else if (kind % 4 == 2) {
      body.insert(body.begin() + static_cast<ptrdiff_t>(at), value % 16, kind);
    } else if (!body.empty()) {
      const size_t length = std::min<size_t>(frame_length + kFrameOverhead, body.size());
      body.insert(body.end(), body.begin(), body.begin() + static_cast<ptrdiff_t>(length));
    }
  }
  const auto [opened, ended] = open_in_pieces(message.opening(), body, in);
  must(ended == same(body, whole), "only the whole body ends well");
  must(opened.size() <= plaintext.size() && std::equal(opened.begin(), opened.end(), plaintext.begin()),
       "what came out is the beginning of what went in");
  return 0;
}
