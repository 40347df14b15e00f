#ifndef DEKD_CORE_MAC_ROWS_H_
#define DEKD_CORE_MAC_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "hmac.h"
#include "key_table.h"
#include "status.h"

namespace dekd {

// MACs of many values at once, by the rows of token.h. A row's MAC is
//   HMAC-SHA-256(key, scope | u32 length of context | context | u32 length of data | data)
// with big-endian lengths. `scopes` holds u16 length and bytes of every scope; the row's last word is where its own
// begins there. What the scope says is for the caller; by its lengths no two rows that differ have one input.
inline constexpr size_t kRowScopeOffset = 7;

// mac_many writes the 32 bytes of each row at its out offset. Rows whose status is kRowSkip are left alone; the status
// word says ok or stale key, and the output of a row that is not ok is zeros.
// kInvalidArgument when a row reaches outside of `scopes`, `input` or `output` or its regions overlap, kWrongUse when a key
// is not for HMAC-SHA-256; both are found before the first row is touched. Any thread.
Status mac_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> scopes,
                std::span<const uint8_t> input, std::span<uint8_t> output);

// verify_mac_many compares the 32 bytes at each row's out offset, in `input`, with what mac_many would write there, in
// constant time; the status word says ok, failed or stale key. Refuses what mac_many refuses.
Status verify_mac_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> scopes,
                       std::span<const uint8_t> input);

}  // namespace dekd

#endif  // DEKD_CORE_MAC_ROWS_H_
