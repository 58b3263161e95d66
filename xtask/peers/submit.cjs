// Submits messages with nodemailer, for each way to log in one over STARTTLS and one over TLS.
//
// Usage: node submit.cjs STARTTLS_PORT TLS_PORT LOGIN PASSWORD TOKEN RECIPIENT SUBJECT
// It prints how many messages were taken. Behind each subject is a number, from 0.
'use strict';
const { createTransport } = require('nodemailer');

const [starttls, tls, user, pass, accessToken, to, subject] = process.argv.slice(2);
const ways = [
  ['PLAIN', 'pass', { type: 'login', user, pass }],
  ['LOGIN', 'pass', { type: 'login', user, pass }],
  ['XOAUTH2', 'accessToken', { type: 'OAuth2', user, accessToken }],
];

// The commands of the client. nodemailer writes them to its logger, without the secrets.
let commands = [];
const note = (entry, text) => {
  if (entry?.tnx === 'client') commands.push(String(text));
};
const levels = ['level', 'trace', 'debug', 'info', 'warn', 'error', 'fatal'];
const logger = Object.fromEntries(levels.map((level) => [level, note]));

const connect = (secure, authMethod, auth) =>
  createTransport({
    host: '127.0.0.1',
    port: Number(secure ? tls : starttls),
    secure,
    requireTLS: !secure,
    authMethod,
    auth,
    // The server made its certificate itself.
    tls: { rejectUnauthorized: false },
    logger,
    debug: true,
    transactionLog: true,
  });

async function refuseWrongSecret(method, auth) {
  try {
    await connect(false, method, auth).verify();
  } catch (error) {
    if (error.code === 'EAUTH' && error.responseCode === 535) return;
    throw error;
  }
  throw new Error(`${method}: a wrong secret was taken`);
}

async function submit(secure, method, auth, number) {
  commands = [];
  const sent = await connect(secure, method, auth).sendMail({
    from: user,
    to,
    subject: `${subject} ${number}`,
    text: 'Grüße.\n.\n..a line that begins with dots\n',
    attachments: [{ filename: 'ß.bin', content: Buffer.from([...Array(256).keys()]) }],
    dsn: { id: 'a+b=c', return: 'headers', notify: ['success', 'failure'], recipient: to },
  });
  if (!sent.response.startsWith('250 2.0.0') || sent.rejected.length > 0) {
    throw new Error(`${method}: ${sent.response}`);
  }
  if (!commands.some((line) => line.startsWith(`AUTH ${method}`))) {
    throw new Error(`${method} was not used: ${commands}`);
  }
}

async function main() {
  let number = 0;
  for (const [method, secret, auth] of ways) {
    await refuseWrongSecret(method, { ...auth, [secret]: `${auth[secret]}x` });
    for (const secure of [false, true]) {
      await submit(secure, method, auth, number);
      number += 1;
    }
  }
  console.log(number);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
