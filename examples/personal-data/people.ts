/** People in PostgreSQL: personal columns hold tokens, and the e-mail address has a blind index beside it. */
import { randomUUID } from 'node:crypto';
import type { DekdClient, EncryptedRow } from 'dekd/client';
import { PaginationTokens } from 'dekd/helpers';
import type { Pool } from 'pg';

const KEY = 'people';

export interface PersonalData {
  name: string;
  email: string;
  phone: string | null;
  address: { street: string; town: string };
}

export interface Person extends PersonalData {
  tenant: string;
  id: string;
}

function personalFields(dekd: DekdClient) {
  return dekd.fields<Person>()({
    key: KEY,
    partition: (person) => person.tenant,
    fields: ['name', 'email', 'phone', 'address'],
    // What makes the row this one: a value that is moved to another row or column does not open.
    context: (person) => ({ table: 'people', person: person.id }),
  });
}

type Row = EncryptedRow<ReturnType<typeof personalFields>>;

const COLUMNS = 'tenant, id, name, email, phone, address';

export class People {
  readonly #dekd: DekdClient;
  readonly #pool: Pool;
  readonly #fields: ReturnType<typeof personalFields>;
  readonly #pages: PaginationTokens<{ after: string }>;

  constructor(dekd: DekdClient, pool: Pool) {
    this.#dekd = dekd;
    this.#pool = pool;
    this.#fields = personalFields(dekd);
    this.#pages = new PaginationTokens(dekd, { key: 'web', kind: 'people', ttlMs: 3_600_000 });
  }

  /** @throws the database's 23505 when the tenant has that e-mail address already */
  async add(tenant: string, data: PersonalData): Promise<string> {
    const id = randomUUID();
    const [row, index] = await this.#sealed({ ...data, tenant, id });
    await this.#pool.query(`INSERT INTO people (${COLUMNS}, email_index) VALUES ($1, $2, $3, $4, $5, $6, $7)`, [
      tenant,
      id,
      row.name,
      row.email,
      row.phone,
      row.address,
      index,
    ]);
    return id;
  }

  /** @returns whether there is such a person */
  async replace(tenant: string, id: string, data: PersonalData): Promise<boolean> {
    const [row, index] = await this.#sealed({ ...data, tenant, id });
    const { rowCount } = await this.#pool.query(
      `UPDATE people SET name = $3, email = $4, phone = $5, address = $6, email_index = $7
       WHERE tenant = $1 AND id = $2`,
      [tenant, id, row.name, row.email, row.phone, row.address, index],
    );
    return rowCount === 1;
  }

  async get(tenant: string, id: string): Promise<Person | undefined> {
    const { rows } = await this.#pool.query<Row>(`SELECT ${COLUMNS} FROM people WHERE tenant = $1 AND id = $2`, [
      tenant,
      id,
    ]);
    return rows[0] && this.#fields.decrypt(rows[0]);
  }

  async findByEmail(tenant: string, email: string): Promise<Person | undefined> {
    const { rows } = await this.#pool.query<Row>(
      `SELECT ${COLUMNS} FROM people WHERE tenant = $1 AND email_index = $2`,
      [tenant, await this.#emailIndex(tenant, email)],
    );
    return rows[0] && this.#fields.decrypt(rows[0]);
  }

  /**
   * @param token of the page before, which a stranger may have sent
   * @throws DECRYPTION_FAILED or EXPIRED for a token that is not good
   */
  async page(tenant: string, limit: number, token?: string): Promise<{ people: Person[]; next?: string }> {
    const cursor = token === undefined ? undefined : await this.#pages.read(token, { partition: tenant });
    const { rows } = await this.#pool.query<Row>(
      `SELECT ${COLUMNS} FROM people WHERE tenant = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3`,
      [tenant, cursor?.after ?? null, limit + 1],
    );
    const shown = rows.slice(0, limit);
    const last = shown.at(-1);
    // One batch for the page, whatever its length.
    const people = await this.#fields.decryptMany(shown);
    if (rows.length <= limit || last === undefined) {
      return { people };
    }
    return { people, next: await this.#pages.issue({ after: last.id }, { partition: tenant }) };
  }

  /** All that there is of a person is one row, the index included. @returns whether there was one */
  async remove(tenant: string, id: string): Promise<boolean> {
    const { rowCount } = await this.#pool.query('DELETE FROM people WHERE tenant = $1 AND id = $2', [tenant, id]);
    return rowCount === 1;
  }

  async #sealed(person: Person): Promise<[Row, string]> {
    return Promise.all([this.#fields.encrypt(person), this.#emailIndex(person.tenant, person.email)]);
  }

  #emailIndex(tenant: string, email: string): Promise<string> {
    const column = { key: KEY, partition: tenant, table: 'people', column: 'email' };
    return this.#dekd.blindIndex(email, { ...column, normalise: 'email' });
  }
}
