/**
 * The interface that each varlink service has.
 * Source: https://varlink.org/Service; systemd, varlink-org.varlink.service.c, for the last two errors.
 */
import { defineInterface } from './interface.ts';
import { array, string } from './types.ts';

export const varlinkService = defineInterface(
  'org.varlink.service',
  'The Varlink Service Interface is provided by every varlink service. It\ndescribes the service and the interfaces it implements.',
  {
    methods: {
      GetInfo: {
        about: 'Get a list of all the interfaces a service provides and information\nabout the implementation.',
        takes: {},
        gives: { vendor: string, product: string, version: string, url: string, interfaces: array(string) },
      },
      GetInterfaceDescription: {
        about: 'Get the description of an interface that is implemented by this service.',
        takes: { interface: string },
        gives: { description: string },
      },
    },
    errors: {
      InterfaceNotFound: { about: 'The requested interface was not found.', holds: { interface: string } },
      MethodNotFound: { about: 'The requested method was not found.', holds: { method: string } },
      MethodNotImplemented: {
        about: 'The interface defines the requested method, but the service does not\nimplement it.',
        holds: { method: string },
      },
      InvalidParameter: { about: 'One of the passed parameters is invalid.', holds: { parameter: string } },
      PermissionDenied: { about: 'The client may not call the method.', holds: {} },
      ExpectedMore: { about: "The method must be called with 'more'.", holds: {} },
    },
  },
);
