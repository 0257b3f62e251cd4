// The HTTP call written by hand as a job worker of the Camunda 8 Node SDK (gRPC, streaming).
import { Camunda8 } from '@camunda8/sdk'
import { Agent, request } from 'undici'

const cap = Number(process.env.CAP ?? 512)
const agent = new Agent({ connections: cap })
const c8 = new Camunda8({ ZEEBE_GRPC_ADDRESS: 'grpc://' + process.env.ENGINE, ZEEBE_REST_ADDRESS: 'http://' + process.env.ENGINE_REST,
  CAMUNDA_AUTH_STRATEGY: 'NONE', zeebeGrpcSettings: { ZEEBE_CLIENT_LOG_LEVEL: 'ERROR' } })
const zbc = c8.getZeebeGrpcApiClient()
const handler = async job => {
  const v = job.variables
  const q = new URLSearchParams(v.queryParameters)
  const r = await request(`${v.url}&${q}`, { method: v.method, headers: v.headers, body: JSON.stringify(v.body), dispatcher: agent })
  const body = await r.body.json()
  return job.complete({ httpResult: { status: r.statusCode, headers: r.headers, body }, orderId: body.orderId,
    httpStatus: r.statusCode, total: body.total })
}
await zbc.streamJobs({ type: 'io.camunda:http-json:1', worker: 'node', timeout: 300000, tenantIds: ['<default>'],
  fetchVariable: [], taskHandler: handler })
setInterval(() => {}, 1000)
