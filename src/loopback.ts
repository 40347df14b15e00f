/**
 * Whether nobody on the network can read what is sent to `host`: a name or address as in a URL, with or without the brackets of
 * IPv6 (RFC 6761 section 6.3, RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
 */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\]|::1)$/.test(host);
}
