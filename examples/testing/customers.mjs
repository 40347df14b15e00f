// What is tested: customers whose e-mail addresses are kept encrypted, in a Map here and in a table in your application.

export class Customers {
  #dekd;
  #rows;

  /**
   * @param {import('dekd/client').DekdClient} dekd
   * @param {Map<string, { email: string }>} rows
   */
  constructor(dekd, rows) {
    this.#dekd = dekd;
    this.#rows = rows;
  }

  async add(id, email) {
    this.#rows.set(id, { email: await this.#dekd.encryptText(email, bindingOf(id)) });
  }

  async emailOf(id) {
    const row = this.#rows.get(id);
    return row === undefined ? undefined : this.#dekd.decryptText(row.email, bindingOf(id));
  }
}

function bindingOf(id) {
  return { key: 'customers', context: { field: 'email', id } };
}
