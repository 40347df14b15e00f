#ifndef DEKD_CORE_ROOT_KEY_H_
#define DEKD_CORE_ROOT_KEY_H_

#include <cstdint>

#include "key_table.h"
#include "status.h"

namespace dekd {

// A key file: 32 bytes as canonical base64 with padding (RFC 4648 section 4), 44 characters, with or without a line
// feed after them, and nothing else. One of an application from before (kLegacyUse, legacy.h) may also be the 32 bytes
// themselves; their number tells the two apart.

// The use of a root key: wrapping keys are derived from it.
inline constexpr KeyUse kRootUse{Algorithm::kHkdfSha256, Purpose::kWrap};

// read_root_key reads `fd` from its position to its end and puts the key into the table, for `use`: kRootUse, kRawAesUse
// (data_key.h) or kLegacyUse. The text is in this thread's stack only, and wiped. kMalformedKey when it is anything else, kSystemFailed
// with errno when a read fails. The caller keeps and closes `fd`.
Result<KeyHandle> read_root_key(KeyTable& table, int fd, KeyUse use, uint32_t owner);

// write_root_key draws a key and writes it with a line feed to `fd`; nothing of it is kept.
Status write_root_key(int fd);

// write_key_line writes a key of kRootUse that is in the table in the same way.
Status write_key_line(KeyTable& table, KeyHandle key, int fd);

}  // namespace dekd

#endif  // DEKD_CORE_ROOT_KEY_H_
