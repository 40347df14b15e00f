#ifndef DEKD_CORE_SELF_TEST_H_
#define DEKD_CORE_SELF_TEST_H_

#include "status.h"

namespace dekd {

// self_test checks, before anything is sealed with it, that the OpenSSL found at run time does what this code was
// written against: AES-256-GCM and XAES-256-GCM with known answers, refusal of a changed tag, HMAC and HKDF with known
// answers, and that both ways of deriving agree. kCryptoFailed when any differs. Takes some 20 µs.
Status self_test();

// supported_openssl says whether the OpenSSL at run time is of the major version of the headers; another one may have
// changed what the functions used here do.
bool supported_openssl();

}  // namespace dekd

#endif  // DEKD_CORE_SELF_TEST_H_
