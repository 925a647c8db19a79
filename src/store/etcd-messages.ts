import type { ServiceDefinition } from '@grpc/grpc-js'
import { fromJSON } from '@grpc/proto-loader'

/**
 * The part of etcd's v3 API that is used here: messages as they look in JavaScript, then their field numbers.
 * 64-bit numbers arrive as decimal strings. The API's reference is at https://etcd.io/docs/v3.5/learning/api/.
 */
export interface Header {
  clusterId: string
  memberId: string
  revision: string
  raftTerm: string
}

/** Every answer has one; the server leaves it out only when it is broken. */
export interface Answer {
  header: Header | null
}

export interface KeyValue {
  key: Buffer
  createRevision: string
  modRevision: string
  value: Buffer
  lease: string
}

export interface RangeAnswer extends Answer {
  kvs: KeyValue[]
}

export interface CompareMessage {
  result: 'EQUAL'
  target: 'MOD' | 'CREATE'
  key: Buffer
  modRevision?: number
  createRevision?: number
}

export interface OperationMessage {
  requestPut?: { key: Buffer; value: Buffer; lease: string }
  requestDeleteRange?: { key: Buffer }
}

export interface TxnAnswer extends Answer {
  succeeded: boolean
}

export interface WatchAnswer extends Answer {
  created: boolean
  canceled: boolean
  compactRevision: string
  cancelReason: string
  events: { type: 'PUT' | 'DELETE'; kv: KeyValue }[]
}

export interface LeaseAnswer extends Answer {
  ID: string
  /** Seconds. */
  TTL: string
}

export interface AuthenticateAnswer extends Answer {
  token: string
}

export interface StatusAnswer extends Answer {
  /** What is wrong with the cluster, such as `memberID:1 alarm:NOSPACE`. */
  errors: string[]
}

export interface PermissionMessage {
  permType: 'READ' | 'WRITE' | 'READWRITE'
  key: Buffer
  rangeEnd: Buffer
}

type Fields = Record<string, [id: number, type: string, rule?: 'repeated']>

function message(fields: Fields): object {
  const described = Object.entries(fields).map(([name, [id, type, rule]]) => [
    name,
    rule ? { id, type, rule } : { id, type },
  ])
  return { fields: Object.fromEntries(described) as object }
}

function withOneof(name: string, fields: Fields, common: Fields = {}): object {
  return { oneofs: { [name]: { oneof: Object.keys(fields) } }, ...message({ ...common, ...fields }) }
}

const kv = {
  KeyValue: message({
    key: [1, 'bytes'],
    createRevision: [2, 'int64'],
    modRevision: [3, 'int64'],
    value: [5, 'bytes'],
    lease: [6, 'int64'],
  }),
  Event: {
    ...message({ type: [1, 'EventType'], kv: [2, 'KeyValue'] }),
    nested: { EventType: { values: { PUT: 0, DELETE: 1 } } },
  },
}

const auth = {
  UserAddOptions: message({ noPassword: [1, 'bool'] }),
  Permission: {
    ...message({ permType: [1, 'Type'], key: [2, 'bytes'], rangeEnd: [3, 'bytes'] }),
    nested: { Type: { values: { READ: 0, WRITE: 1, READWRITE: 2 } } },
  },
}

/** An answer that says nothing but that it was done. */
const done = message({ header: [1, 'ResponseHeader'] })

const authMessages = {
  AuthenticateRequest: message({ name: [1, 'string'], password: [2, 'string'] }),
  AuthenticateResponse: message({ header: [1, 'ResponseHeader'], token: [2, 'string'] }),
  AuthEnableRequest: message({}),
  AuthEnableResponse: done,
  AuthUserAddRequest: message({
    name: [1, 'string'],
    password: [2, 'string'],
    options: [3, 'authpb.UserAddOptions'],
  }),
  AuthUserAddResponse: done,
  AuthUserGetRequest: message({ name: [1, 'string'] }),
  AuthUserGetResponse: message({ header: [1, 'ResponseHeader'], roles: [2, 'string', 'repeated'] }),
  AuthUserListRequest: message({}),
  AuthUserListResponse: message({ header: [1, 'ResponseHeader'], users: [2, 'string', 'repeated'] }),
  AuthUserDeleteRequest: message({ name: [1, 'string'] }),
  AuthUserDeleteResponse: done,
  AuthUserGrantRoleRequest: message({ user: [1, 'string'], role: [2, 'string'] }),
  AuthUserGrantRoleResponse: done,
  AuthRoleAddRequest: message({ name: [1, 'string'] }),
  AuthRoleAddResponse: done,
  AuthRoleGetRequest: message({ role: [1, 'string'] }),
  AuthRoleGetResponse: message({
    header: [1, 'ResponseHeader'],
    perm: [2, 'authpb.Permission', 'repeated'],
  }),
  AuthRoleListRequest: message({}),
  AuthRoleListResponse: message({ header: [1, 'ResponseHeader'], roles: [2, 'string', 'repeated'] }),
  AuthRoleDeleteRequest: message({ role: [1, 'string'] }),
  AuthRoleDeleteResponse: done,
  AuthRoleGrantPermissionRequest: message({ name: [1, 'string'], perm: [2, 'authpb.Permission'] }),
  AuthRoleGrantPermissionResponse: done,
  AuthRoleRevokePermissionRequest: message({
    role: [1, 'string'],
    key: [2, 'bytes'],
    rangeEnd: [3, 'bytes'],
  }),
  AuthRoleRevokePermissionResponse: done,
}

const messages = {
  ResponseHeader: message({
    clusterId: [1, 'uint64'],
    memberId: [2, 'uint64'],
    revision: [3, 'int64'],
    raftTerm: [4, 'uint64'],
  }),
  RangeRequest: message({ key: [1, 'bytes'], rangeEnd: [2, 'bytes'] }),
  RangeResponse: message({ header: [1, 'ResponseHeader'], kvs: [2, 'mvccpb.KeyValue', 'repeated'] }),
  PutRequest: message({ key: [1, 'bytes'], value: [2, 'bytes'], lease: [3, 'int64'] }),
  DeleteRangeRequest: message({ key: [1, 'bytes'] }),
  RequestOp: withOneof('request', {
    requestPut: [2, 'PutRequest'],
    requestDeleteRange: [3, 'DeleteRangeRequest'],
  }),
  Compare: {
    ...withOneof(
      'targetUnion',
      { createRevision: [5, 'int64'], modRevision: [6, 'int64'] },
      { result: [1, 'CompareResult'], target: [2, 'CompareTarget'], key: [3, 'bytes'] },
    ),
    nested: {
      CompareResult: { values: { EQUAL: 0, GREATER: 1, LESS: 2, NOT_EQUAL: 3 } },
      CompareTarget: { values: { VERSION: 0, CREATE: 1, MOD: 2, VALUE: 3, LEASE: 4 } },
    },
  },
  TxnRequest: message({ compare: [1, 'Compare', 'repeated'], success: [2, 'RequestOp', 'repeated'] }),
  TxnResponse: message({ header: [1, 'ResponseHeader'], succeeded: [2, 'bool'] }),
  WatchCreateRequest: message({ key: [1, 'bytes'], rangeEnd: [2, 'bytes'], startRevision: [3, 'int64'] }),
  WatchRequest: withOneof('request', { createRequest: [1, 'WatchCreateRequest'] }),
  WatchResponse: message({
    header: [1, 'ResponseHeader'],
    created: [3, 'bool'],
    canceled: [4, 'bool'],
    compactRevision: [5, 'int64'],
    cancelReason: [6, 'string'],
    events: [11, 'mvccpb.Event', 'repeated'],
  }),
  LeaseGrantRequest: message({ TTL: [1, 'int64'] }),
  LeaseGrantResponse: message({ header: [1, 'ResponseHeader'], ID: [2, 'int64'], TTL: [3, 'int64'] }),
  LeaseRevokeRequest: message({ ID: [1, 'int64'] }),
  LeaseRevokeResponse: message({ header: [1, 'ResponseHeader'] }),
  LeaseKeepAliveRequest: message({ ID: [1, 'int64'] }),
  LeaseKeepAliveResponse: message({ header: [1, 'ResponseHeader'], ID: [2, 'int64'], TTL: [3, 'int64'] }),
  ...authMessages,
  StatusRequest: message({}),
  StatusResponse: message({ header: [1, 'ResponseHeader'], errors: [8, 'string', 'repeated'] }),
}

function method(request: string, stream = false): object {
  return {
    requestType: `${request}Request`,
    responseType: `${request}Response`,
    ...(stream ? { requestStream: true, responseStream: true } : {}),
  }
}

const services = {
  KV: { methods: { Range: method('Range'), Txn: method('Txn') } },
  Watch: { methods: { Watch: method('Watch', true) } },
  Lease: {
    methods: {
      LeaseGrant: method('LeaseGrant'),
      LeaseRevoke: method('LeaseRevoke'),
      LeaseKeepAlive: method('LeaseKeepAlive', true),
    },
  },
  Auth: {
    methods: {
      Authenticate: method('Authenticate'),
      AuthEnable: method('AuthEnable'),
      UserAdd: method('AuthUserAdd'),
      UserGet: method('AuthUserGet'),
      UserList: method('AuthUserList'),
      UserDelete: method('AuthUserDelete'),
      UserGrantRole: method('AuthUserGrantRole'),
      RoleAdd: method('AuthRoleAdd'),
      RoleGet: method('AuthRoleGet'),
      RoleList: method('AuthRoleList'),
      RoleDelete: method('AuthRoleDelete'),
      RoleGrantPermission: method('AuthRoleGrantPermission'),
      RoleRevokePermission: method('AuthRoleRevokePermission'),
    },
  },
  Maintenance: { methods: { Status: method('Status') } },
}

/** The services as gRPC describes them, for a client and for a test's server alike. */
export const definitions = fromJSON(
  {
    nested: {
      mvccpb: { nested: kv },
      authpb: { nested: auth },
      etcdserverpb: { nested: { ...messages, ...services } },
    },
  } as Parameters<typeof fromJSON>[0],
  { longs: String, enums: String, defaults: true },
)

export interface Method<Request, Result> {
  path: string
  serialize: (request: Request) => Buffer
  deserialize: (data: Buffer) => Result
}

function methodOf<Request, Result>(service: string, name: string): Method<Request, Result> {
  const definition = (definitions[`etcdserverpb.${service}`] as ServiceDefinition)[name]
  if (!definition) throw new Error(`etcd's service ${service} has no method ${name} in its description`)
  return {
    path: definition.path,
    serialize: definition.requestSerialize,
    deserialize: definition.responseDeserialize as (data: Buffer) => Result,
  }
}

export const methods = {
  range: methodOf<{ key: Buffer; rangeEnd?: Buffer }, RangeAnswer>('KV', 'Range'),
  txn: methodOf<{ compare: CompareMessage[]; success: OperationMessage[] }, TxnAnswer>('KV', 'Txn'),
  watch: methodOf<{ createRequest: { key: Buffer; rangeEnd: Buffer; startRevision: number } }, WatchAnswer>(
    'Watch',
    'Watch',
  ),
  leaseGrant: methodOf<{ TTL: number }, LeaseAnswer>('Lease', 'LeaseGrant'),
  leaseRevoke: methodOf<{ ID: string }, Answer>('Lease', 'LeaseRevoke'),
  leaseKeepAlive: methodOf<{ ID: string }, LeaseAnswer>('Lease', 'LeaseKeepAlive'),
  authenticate: methodOf<{ name: string; password: string }, AuthenticateAnswer>('Auth', 'Authenticate'),
  status: methodOf<Record<string, never>, StatusAnswer>('Maintenance', 'Status'),
}

/** Administration of users and roles. */
export const authMethods = {
  enable: methodOf<Record<string, never>, Answer>('Auth', 'AuthEnable'),
  userAdd: methodOf<{ name: string; password: string; options: { noPassword: boolean } }, Answer>(
    'Auth',
    'UserAdd',
  ),
  userGet: methodOf<{ name: string }, Answer & { roles: string[] }>('Auth', 'UserGet'),
  userList: methodOf<Record<string, never>, Answer & { users: string[] }>('Auth', 'UserList'),
  userDelete: methodOf<{ name: string }, Answer>('Auth', 'UserDelete'),
  userGrantRole: methodOf<{ user: string; role: string }, Answer>('Auth', 'UserGrantRole'),
  roleAdd: methodOf<{ name: string }, Answer>('Auth', 'RoleAdd'),
  roleGet: methodOf<{ role: string }, Answer & { perm: PermissionMessage[] }>('Auth', 'RoleGet'),
  roleList: methodOf<Record<string, never>, Answer & { roles: string[] }>('Auth', 'RoleList'),
  roleDelete: methodOf<{ role: string }, Answer>('Auth', 'RoleDelete'),
  roleGrant: methodOf<{ name: string; perm: PermissionMessage }, Answer>('Auth', 'RoleGrantPermission'),
  roleRevoke: methodOf<{ role: string; key: Buffer; rangeEnd: Buffer }, Answer>(
    'Auth',
    'RoleRevokePermission',
  ),
}
