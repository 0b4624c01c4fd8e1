// A real OpenID provider for the tests: `oidc-provider` with one client and one person, alice.
//
// Discovery and JWKS as the library serves them; authorisation code flow with PKCE; refresh tokens
// rotate, and the second use of one revokes the whole grant. Access tokens are JWTs (RFC 9068) for
// the audience `legacy-app`. Nobody has to fill in a form: whoever comes to the login page is alice.
//
// BACKCHANNEL_LOGOUT_URI: who is told of logouts; with SESSION_REQUIRED=1 of the session, which access tokens
// then name, too, else of the person. ACCESS_TOKEN_TTL_S sets the life of access tokens. Prints `ready ISSUER` when it listens, and a line
// for each grant: `grant TYPE`, `grant refused TYPE`, `grant revoked`; and `backchannel success` or `error`.
import { createServer } from "node:http";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { Provider } from "oidc-provider";

const accessTokenTtlS = Number(process.env.ACCESS_TOKEN_TTL_S ?? 300);
const resource = "urn:legacy-app";
const backchannel = process.env.BACKCHANNEL_LOGOUT_URI && {
  backchannel_logout_uri: process.env.BACKCHANNEL_LOGOUT_URI,
  backchannel_logout_session_required: process.env.SESSION_REQUIRED === "1",
};

function signingKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: "test-1", use: "sig", alg: "ES256" };
}

const configuration = {
  jwks: { keys: [signingKey()] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  clients: [
    {
      client_id: "evergate",
      client_secret: "a secret: with a colon & a space",
      redirect_uris: ["https://app.test/callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "client_secret_basic",
      id_token_signed_response_alg: "ES256",
      ...backchannel,
    },
  ],
  scopes: ["openid"],
  claims: { openid: ["sub"] },
  ttl: { Interaction: 60, IdToken: 60, AccessToken: accessTokenTtlS, RefreshToken: 3600, Session: 3600, Grant: 3600 },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  extraTokenClaims: async (ctx) => {
    const { AuthorizationCode, RefreshToken } = ctx.oidc.entities;
    const sid = (AuthorizationCode ?? RefreshToken)?.sid;
    return { email: "alice@example.org", roles: ["staff"], ...(sid && { sid }) };
  },
  // The library refuses to call loopback addresses, and here everybody lives on one.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  // Consent is given in advance, so that the login is the only interaction.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope("openid");
    grant.addResourceScope(resource, "app");
    await grant.save();
    return grant;
  },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => resource,
      useGrantedResource: async () => true,
      getResourceServerInfo: async () => ({
        scope: "app",
        audience: "legacy-app",
        accessTokenFormat: "jwt",
        accessTokenTTL: accessTokenTtlS,
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  const handle = provider.callback();
  provider.on("grant.success", (ctx) => console.log(`grant ${ctx.oidc.params.grant_type}`));
  provider.on("grant.error", (ctx) => console.log(`grant refused ${ctx.oidc.params?.grant_type}`));
  provider.on("backchannel.success", () => console.log("backchannel success"));
  provider.on("backchannel.error", (_ctx, error) => console.log(`backchannel error ${error.message}`));
  provider.on("grant.revoked", () => console.log("grant revoked"));
  server.on("request", async (request, response) => {
    if (request.url.startsWith("/interaction/")) {
      await provider.interactionFinished(request, response, { login: { accountId: "alice" } });
    } else {
      handle(request, response);
    }
  });
  console.log(`ready ${issuer}`);
});
