import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { type DatabaseAccess, dropSchema, freshSchema, startDatabase } from './postgres.ts';

/** A table of an application in PostgreSQL, in a schema of its own, while the tests run of the group that makes it. */
export class ApplicationTable {
  /** Quoted, with its schema. */
  readonly name: string;
  #database: DatabaseAccess | undefined;
  #pool: pg.Pool | undefined;
  #admin: pg.Client | undefined;

  constructor(name: string, columns: string) {
    const schema = freshSchema();
    this.name = `"${schema}".${name}`;
    beforeAll(async () => {
      this.#database = await startDatabase();
      this.#admin = await this.#database.admin();
      await this.#admin.query(`CREATE SCHEMA "${schema}"`);
      await this.#admin.query(`CREATE TABLE ${this.name} (${columns})`);
      this.#pool = new pg.Pool({ connectionString: this.#database.settings.url!, max: 16 });
    });
    afterAll(async () => {
      await this.#pool?.end();
      await this.#admin?.end();
      await dropSchema(this.#database!, schema);
      await this.#database!.stop();
    });
  }

  /** The connections of the application. */
  get pool(): pg.Pool {
    return this.#pool!;
  }

  /** Everything in it. */
  async rows(): Promise<unknown[]> {
    return (await this.#admin!.query(`SELECT * FROM ${this.name}`)).rows;
  }
}
