// The baseline of the native engine: a batch of tokens sealed by the loop that one would write in C++ for just that,
// with the functions of the Node executable. Same nonce scheme, one derivation a batch, AAD, layout of the output, and
// key material wiped at the end of each batch. No key table, no row table, no checks. And a bare copy, the limit of all.
#include <node_api.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr size_t kHead = 18;
constexpr size_t kNonce = 24;
constexpr size_t kPrefix = 12;
constexpr size_t kTag = 16;
constexpr size_t kOverhead = kHead + kNonce + kTag;

EVP_CIPHER* gcm = nullptr;
EVP_CIPHER* ecb = nullptr;
EVP_CIPHER_CTX* seal = nullptr;
EVP_CIPHER_CTX* blocks = nullptr;

struct Bytes {
  uint8_t* data;
  size_t size;
};

// K1 of the key (SP 800-38B 6.1); like the engine, worked out once and kept.
bool make_k1(const uint8_t* key, uint8_t* k1) {
  const uint8_t zero[16] = {};
  uint8_t l[16];
  int written = 0;
  if (EVP_EncryptInit_ex2(blocks, ecb, key, nullptr, nullptr) != 1 || EVP_CIPHER_CTX_set_padding(blocks, 0) != 1 ||
      EVP_EncryptUpdate(blocks, l, &written, zero, 16) != 1) {
    return false;
  }
  for (size_t i = 0; i < 15; ++i) {
    k1[i] = static_cast<uint8_t>((l[i] << 1) | (l[i + 1] >> 7));
  }
  k1[15] = static_cast<uint8_t>((l[15] << 1) ^ (0x87 & -(l[0] >> 7)));
  return true;
}

// XAES-256-GCM: two blocks under the key give the key of all nonces with this prefix.
bool derive(const uint8_t* key, const uint8_t* k1, const uint8_t* nonce, uint8_t* subkey) {
  uint8_t in[32] = {};
  for (size_t half = 0; half < 2; ++half) {
    uint8_t* const block = in + 16 * half;
    block[1] = static_cast<uint8_t>(half + 1);
    block[2] = 'X';
    std::memcpy(block + 4, nonce, kPrefix);
    for (size_t i = 0; i < 16; ++i) {
      block[i] ^= k1[i];
    }
  }
  int written = 0;
  const bool done = EVP_EncryptInit_ex2(blocks, ecb, key, nullptr, nullptr) == 1 &&
                    EVP_CIPHER_CTX_set_padding(blocks, 0) == 1 &&
                    EVP_EncryptUpdate(blocks, subkey, &written, in, 32) == 1;
  return EVP_CIPHER_CTX_reset(blocks) == 1 && done;
}

bool seal_batch(const uint8_t* key, const uint8_t* k1, Bytes aad, const uint8_t* input, size_t length, size_t items,
                uint8_t* output) {
  uint8_t nonce[kNonce];
  uint8_t subkey[32];
  if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce || !derive(key, k1, nonce, subkey)) {
    return false;
  }
  // The counter starts in the last eight bytes and does not carry out of them in a batch; one draw in 2^40 would.
  uint64_t counter = 0;
  std::memcpy(&counter, nonce + 16, 8);
  counter = __builtin_bswap64(counter);
  bool ok = EVP_EncryptInit_ex2(seal, gcm, subkey, nullptr, nullptr) == 1;
  for (size_t item = 0; ok && item < items; ++item) {
    const uint64_t big_endian = __builtin_bswap64(counter + item);
    std::memcpy(nonce + 16, &big_endian, 8);
    uint8_t* const out = output + item * (length + kOverhead);
    std::memcpy(out, aad.data, kHead);
    std::memcpy(out + kHead, nonce, kNonce);
    uint8_t* const body = out + kHead + kNonce;
    int written = 0;
    int rest = 0;
    ok = EVP_EncryptInit_ex2(seal, nullptr, nullptr, nonce + kPrefix, nullptr) == 1 &&
         EVP_EncryptUpdate(seal, nullptr, &rest, aad.data, static_cast<int>(aad.size)) == 1 &&
         EVP_EncryptUpdate(seal, body, &written, input + item * length, static_cast<int>(length)) == 1 &&
         EVP_EncryptFinal_ex(seal, body + written, &rest) == 1 &&
         EVP_CIPHER_CTX_ctrl(seal, EVP_CTRL_AEAD_GET_TAG, kTag, body + length) == 1;
  }
  OPENSSL_cleanse(subkey, sizeof subkey);
  return EVP_CIPHER_CTX_reset(seal) == 1 && ok;
}

bool bytes_of(napi_env env, napi_value value, Bytes& bytes) {
  napi_typedarray_type type = napi_uint8_array;
  void* data = nullptr;
  const bool ok = napi_get_typedarray_info(env, value, &type, &bytes.size, &data, nullptr, nullptr) == napi_ok;
  bytes.data = static_cast<uint8_t*>(data);
  return ok && type == napi_uint8_array;
}

// sealBatches(count, key, aad, input, itemLength, items, output): seals the same batch `count` times; true when all
// of it worked.
napi_value SealBatches(napi_env env, napi_callback_info info) {
  size_t arguments = 7;
  napi_value values[7];
  uint32_t count = 0;
  uint32_t length = 0;
  uint32_t items = 0;
  Bytes key{};
  Bytes aad{};
  Bytes input{};
  Bytes output{};
  bool ok = napi_get_cb_info(env, info, &arguments, values, nullptr, nullptr) == napi_ok && arguments == 7 &&
            napi_get_value_uint32(env, values[0], &count) == napi_ok && bytes_of(env, values[1], key) &&
            bytes_of(env, values[2], aad) && bytes_of(env, values[3], input) &&
            napi_get_value_uint32(env, values[4], &length) == napi_ok &&
            napi_get_value_uint32(env, values[5], &items) == napi_ok && bytes_of(env, values[6], output) &&
            key.size == 32 && aad.size >= kHead && input.size >= size_t{length} * items &&
            output.size >= (size_t{length} + kOverhead) * items;
  uint8_t k1[16];
  ok = ok && make_k1(key.data, k1);
  for (uint32_t i = 0; ok && i < count; ++i) {
    ok = seal_batch(key.data, k1, aad, input.data, length, items, output.data);
  }
  napi_value result = nullptr;
  napi_get_boolean(env, ok, &result);
  return result;
}

// copy(count, input, output): what the memory of the machine allows, `count` times.
napi_value Copy(napi_env env, napi_callback_info info) {
  size_t arguments = 3;
  napi_value values[3];
  uint32_t count = 0;
  Bytes input{};
  Bytes output{};
  const bool ok = napi_get_cb_info(env, info, &arguments, values, nullptr, nullptr) == napi_ok && arguments == 3 &&
                  napi_get_value_uint32(env, values[0], &count) == napi_ok && bytes_of(env, values[1], input) &&
                  bytes_of(env, values[2], output) && output.size >= input.size;
  for (uint32_t i = 0; ok && i < count; ++i) {
    std::memcpy(output.data, input.data, input.size);
    // Without it the compiler may see that all copies but the last are for nothing.
    asm volatile("" : : "r"(output.data) : "memory");
  }
  napi_value result = nullptr;
  napi_get_boolean(env, ok, &result);
  return result;
}

}  // namespace

NAPI_MODULE_INIT() {
  gcm = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  ecb = EVP_CIPHER_fetch(nullptr, "AES-256-ECB", nullptr);
  seal = EVP_CIPHER_CTX_new();
  blocks = EVP_CIPHER_CTX_new();
  napi_value function = nullptr;
  napi_create_function(env, "sealBatches", NAPI_AUTO_LENGTH, SealBatches, nullptr, &function);
  napi_set_named_property(env, exports, "sealBatches", function);
  napi_value copy = nullptr;
  napi_create_function(env, "copy", NAPI_AUTO_LENGTH, Copy, nullptr, &copy);
  napi_set_named_property(env, exports, "copy", copy);
  return exports;
}
