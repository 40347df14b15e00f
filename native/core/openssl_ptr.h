#ifndef DEKD_CORE_OPENSSL_PTR_H_
#define DEKD_CORE_OPENSSL_PTR_H_

#include <openssl/err.h>
#include <openssl/evp.h>

#include <memory>

namespace dekd {

template <auto Free>
struct OpensslDeleter final {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

// Owners of OpenSSL objects. Freeing a context cleanses the keys in it.
using CipherContextPtr = std::unique_ptr<EVP_CIPHER_CTX, OpensslDeleter<EVP_CIPHER_CTX_free>>;
using DigestContextPtr = std::unique_ptr<EVP_MD_CTX, OpensslDeleter<EVP_MD_CTX_free>>;

// ErrorMark leaves the thread's OpenSSL error queue as it found it: the queue belongs to Node as well, and an entry of
// ours would surface there as somebody else's error.
class ErrorMark final {
 public:
  ErrorMark() { ERR_set_mark(); }
  ~ErrorMark() { ERR_pop_to_mark(); }
  ErrorMark(const ErrorMark&) = delete;
  ErrorMark& operator=(const ErrorMark&) = delete;
};

// Algorithms are looked up once a process and kept until it ends; a look-up costs more than a seal. Null members mean
// that the provider in use does not have them.
struct Algorithms final {
  const EVP_CIPHER* aes_256_gcm;
  const EVP_CIPHER* aes_256_ecb;
  const EVP_MD* sha_256;
  const EVP_MD* sha_512;
};

// algorithms returns the one set. Any thread.
const Algorithms& algorithms();

}  // namespace dekd

#endif  // DEKD_CORE_OPENSSL_PTR_H_
