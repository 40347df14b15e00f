#ifndef DEKD_CORE_MESSAGE_H_
#define DEKD_CORE_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "aead.h"
#include "key_table.h"
#include "status.h"

namespace dekd {

// Messages of the AWS Encryption SDK, message format version 2: the keys of bodies, the tags of headers, and frames. The
// bytes of headers are read and written by `src/envelope/message-header.ts`.
//
// A message in work is a key of its own, for kBodyUse, which is derived from the data key; its handle names the message.
// Beside the key is where the work stands, so that nobody who calls can bring a nonce: the nonce of the header is 0, that
// of a frame its sequence number, each is used once, and after a failure there is no next one. A header is sealed before
// the first frame is, and verified before the first frame is opened. One call works on a message at a time; another one
// meanwhile is kInvalidArgument, and so is a call out of order.
inline constexpr KeyUse kBodyUse{Algorithm::kEsdk0478, Purpose::kSeal};

// Suites that commit to their key. The body of 0x0578 is that of 0x0478; it has a signature behind it.
enum class MessageSuite : uint16_t { kCommitted = 0x0478, kSigned = 0x0578 };

inline constexpr size_t kCommitmentLength = 32;
// Bytes around the plaintext of a frame: sequence number, nonce, tag; in the final one also its mark and length.
inline constexpr size_t kFrameOverhead = 4 + kGcmNonceLength + kTagLength;
inline constexpr size_t kFinalFrameOverhead = kFrameOverhead + 8;
// The same for a body that is not framed: nonce, length, tag.
inline constexpr size_t kSingleBlockOverhead = kGcmNonceLength + 8 + kTagLength;

// begin_message draws an id and derives the key of a body under suite 0x0478. `frame_length`, the bytes of plaintext in
// every frame but the last, is not 0.
Result<KeyHandle> begin_message(KeyTable& table, KeyHandle data_key, uint32_t frame_length, uint32_t owner,
                                std::span<uint8_t, kMessageIdLength> id,
                                std::span<uint8_t, kCommitmentLength> commitment);

// resume_message derives the key of a body that is there already. kAuthenticationFailed when the data key is not the one
// that `commitment` commits to; the key of the body is derived after that comparison only. `frame_length` 0 says that
// the body is not framed.
Result<KeyHandle> resume_message(KeyTable& table, KeyHandle data_key, MessageSuite suite,
                                 std::span<const uint8_t, kMessageIdLength> id, uint32_t frame_length,
                                 std::span<const uint8_t, kCommitmentLength> commitment, uint32_t owner);

// seal_header computes the tag over `header`, the bytes of the header body, and `required`, the serialised pairs of the
// encryption context that are not in it. Once a message.
Status seal_header(KeyTable& table, KeyHandle message, std::span<const uint8_t> header,
                   std::span<const uint8_t> required, std::span<uint8_t, kTagLength> tag);

// verify_header is kOk when the tag is the one of `header` and `required`; from then on frames can be opened. Else
// nothing can.
Status verify_header(KeyTable& table, KeyHandle message, std::span<const uint8_t> header,
                     std::span<const uint8_t> required, std::span<const uint8_t, kTagLength> tag);

// sealed_length is what seal_frames writes for `length` bytes, or 0 when it does not take them: whole frames, unless they
// are the last.
size_t sealed_length(size_t length, uint32_t frame_length, bool final);

// seal_frames writes the next frames. When `final`, the last of them is the final frame, which holds 1 to frame_length
// bytes, or none if the message has none, and the message has ended. `out` is sealed_length() bytes and does not
// overlap `plaintext`.
Status seal_frames(KeyTable& table, KeyHandle message, std::span<const uint8_t> plaintext, bool final,
                   std::span<uint8_t> out);

struct OpenedFrames final {
  // Bytes of the body that were whole frames, and of plaintext that they held.
  size_t consumed = 0;
  size_t produced = 0;
  // The final frame was among them: the message has ended, and what follows is not of its body.
  bool final = false;
};

// open_frames opens all frames that are whole in `body`, beginning with the next one. `out` is at least as long as `body`
// and does not overlap it; it is zeros after kAuthenticationFailed, which is the answer to a frame out of sequence, longer
// than the others, or changed. `body` must not change during the call.
Status open_frames(KeyTable& table, KeyHandle message, std::span<const uint8_t> body, std::span<uint8_t> out,
                   OpenedFrames& opened);

// seek_frame says which frame comes next, counting from 1, when a part of a framed body is read. Its tag says whether it
// is that frame; that the message is complete only its final frame can say.
Status seek_frame(KeyTable& table, KeyHandle message, uint32_t sequence);

}  // namespace dekd

#endif  // DEKD_CORE_MESSAGE_H_
