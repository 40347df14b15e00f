#ifndef DEKD_CORE_KEY_PIPE_H_
#define DEKD_CORE_KEY_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "key_table.h"
#include "status.h"
#include "token.h"

namespace dekd {

// The key pipe carries keys between the table and a process that runs a provider's library, and brings back what such a
// library wants kept (a login token), without any of it passing the heap of this one.
//
// A frame: u32 big-endian id, u32 big-endian length, that many bytes. The id names the call that the frame belongs to,
// so that a late frame is never taken for another. One end of the pipe is this process's own and does not block: the
// other process says by another way that its frame is written, and if it is then not there whole, it lied or died.
//
// After kPipeFailed, kPipeEnded and kUnexpectedFrame the two ends no longer agree on where a frame begins: close the
// pipe. After every other status they do.
//
// SIGPIPE must be ignored by the process, as Node does from its start on: writing to a pipe without a reader is then
// EPIPE and not the end of the process.

// The uses of keys that travel, and no others: secrets that a provider wraps, from which wrapping keys are derived, and
// data keys (kDataKeyUse), which a provider wraps as they are where other software shall open the message.
inline constexpr KeyUse kPipedUse{Algorithm::kHkdfSha256, Purpose::kWrap};
inline constexpr size_t kFrameHeadLength = 8;
// The longest body. Login tokens reach some 4 KiB (a JWT with many claims); a frame stays far below what an empty pipe
// holds (64 KiB), so that a writer that may not block can write it whole.
inline constexpr size_t kMaxPipedLength = 16384;
inline constexpr size_t kMaxPipedToken = kMaxPipedLength + kTokenOverhead;

enum class PipeEnd : uint32_t { kRead = 0, kWrite = 1 };

struct PipeEnds final {
  int read = -1;
  int write = -1;
};

// open_pipe makes a pipe whose ends are closed by exec. The end that is `own` does not block, the other one does; the
// caller closes both. False, with errno, when there is none.
bool open_pipe(PipeEnd own, PipeEnds& ends);

// send_key writes the key of a handle, which is for one of the uses that travel, as a frame: from its slot to the pipe, in
// one call that the kernel does whole or not at all (40 bytes, PIPE_BUF is 4,096).
Status send_key(KeyTable& table, int fd, uint32_t id, KeyHandle key);

// receive_key reads one frame with a key of `use` into a slot. When the table is full the frame is taken off the pipe and
// lost; of a use that does not travel nothing is read.
Result<KeyHandle> receive_key(KeyTable& table, int fd, uint32_t id, KeyUse use, uint32_t owner);

// receive_sealed reads one frame of 1 to kMaxPipedLength bytes and seals it under `key` as seal_token does. `out` has
// kMaxPipedToken bytes; the result is the length of the token. The plaintext is only in pages of this call, which are
// locked where the limit allows it, and wiped; when sealing fails it is lost.
Result<uint32_t> receive_sealed(KeyTable& table, int fd, uint32_t id, KeyHandle key, std::span<const uint8_t> context,
                                std::span<uint8_t> out);

// send_opened opens a token that receive_sealed made, with its context, and writes the plaintext as a frame.
// kAuthenticationFailed for any other token; nothing is written then.
Status send_opened(KeyTable& table, int fd, uint32_t id, KeyHandle key, std::span<const uint8_t> token,
                   std::span<const uint8_t> context);

// For a library that runs in this process itself, where its bytes are in ordinary memory anyhow.

// import_secret makes a key of `use` of `bytes`, which are kKeyLength long, and wipes them whatever comes of it. The use is
// one of those that travel, or kLegacyUse (legacy.h).
Result<KeyHandle> import_secret(KeyTable& table, std::span<uint8_t> bytes, KeyUse use, uint32_t owner);

// expose_secret copies a key of a use that travels out of the table, DELIBERATELY. The caller wipes `out`.
Status expose_secret(KeyTable& table, KeyHandle key, std::span<uint8_t, kKeyLength> out);

}  // namespace dekd

#endif  // DEKD_CORE_KEY_PIPE_H_
